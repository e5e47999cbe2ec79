"""Where the subjects of cartoon10 are: what lies behind them, and what stands before them."""

from __future__ import annotations

import numpy as np

from cifar_core.drawing import (
    FUR,
    PAINT,
    WHITE,
    Canvas,
    Chance,
    Colour,
    Whole,
    box,
    darker,
    ellipse,
    lighter,
    limb,
    mix,
    outline,
)

_SKIES = (
    ((90, 150, 220), (200, 226, 242)),
    ((60, 120, 200), (150, 196, 232)),
    ((170, 180, 190), (214, 218, 220)),
    ((70, 60, 110), (240, 150, 90)),
    ((240, 180, 150), (250, 224, 180)),
    ((24, 30, 60), (60, 70, 110)),
    ((110, 118, 130), (160, 166, 172)),
    ((120, 190, 190), (226, 238, 220)),
)
_LANDS = (
    ((120, 160, 80), (70, 110, 50)),
    ((170, 160, 90), (120, 110, 60)),
    ((90, 130, 70), (50, 84, 50)),
    ((214, 196, 150), (180, 156, 110)),
    ((230, 234, 240), (196, 206, 220)),
    ((140, 110, 80), (96, 74, 56)),
)
_WATERS = (
    ((60, 120, 170), (30, 80, 130)),
    ((90, 150, 160), (50, 110, 120)),
    ((120, 134, 146), (80, 94, 108)),
    ((30, 50, 90), (16, 28, 56)),
    ((200, 150, 120), (90, 80, 110)),
)
_WALLS = (
    ((226, 214, 196), (206, 190, 168)),
    ((170, 190, 196), (140, 160, 170)),
    ((190, 150, 140), (160, 120, 112)),
    ((110, 116, 130), (84, 90, 104)),
    ((150, 170, 130), (120, 140, 104)),
)
_FLOORS = (
    ((170, 120, 76), (120, 84, 52)),
    ((150, 150, 152), (110, 110, 114)),
    ((190, 170, 150), (150, 130, 110)),
    ((130, 60, 56), (96, 44, 44)),
)


def _ramp(chance: Chance, pairs: tuple[tuple[Colour, Colour], ...]) -> tuple[Whole, Whole]:
    which = chance.between(0, len(pairs) - 1)
    change = np.stack([chance.between(-22, 22) for _ in range(3)], axis=1)
    both = np.array(pairs)[which]
    return tuple(np.clip(both[:, i] + change, 0, 255) for i in range(2))  # type: ignore[return-value]


def sky(canvas: Canvas, chance: Chance) -> None:
    canvas.fill(*_ramp(chance, _SKIES))
    tone = chance.pick(((255, 255, 255), (236, 236, 240), (190, 194, 204)))
    sun = chance.percent(20)
    x, y = chance.between(-100, 100), chance.between(-100, 20)
    canvas.paint([ellipse(x, y, 20, 20)], np.array((255, 244, 190)), 220, where=sun)
    for _ in range(3):
        x, y, wide = chance.between(-130, 130), chance.between(-120, 120), chance.between(18, 44)
        puffs = [
            ellipse(x, y, wide, wide * 45 // 100),
            ellipse(x - wide * 2 // 3, y + 5, wide * 60 // 100, wide * 30 // 100),
            ellipse(x + wide * 2 // 3, y + 4, wide * 70 // 100, wide * 32 // 100),
        ]
        canvas.paint(puffs, tone, chance.between(90, 220), where=chance.percent(60))
    # A plane or a bird may be low enough for the land to be seen.
    land = chance.percent(30)
    high = chance.between(60, 110)
    hills = [(x, high + chance.between(-26, 20)) for x in range(-160, 161, 64)]
    canvas.paint([outline(*hills, (200, 300), (-200, 300), rounds=2)], _ramp(chance, _LANDS)[1], where=land)


def land(canvas: Canvas, chance: Chance) -> None:
    horizon = chance.between(8, 22)
    sky, ground = _ramp(chance, _SKIES), _ramp(chance, _LANDS)
    canvas.fill(*sky)
    level = (horizon - 16) * 25 // 4
    hills = [(x, level + chance.between(-50, 4)) for x in range(-160, 161, 64)]
    canvas.paint([outline(*hills, (200, 300), (-200, 300), rounds=2)], mix(ground[1], sky[1], 45))
    canvas.fill(*ground, horizon)
    leaves = chance.pick(((60, 110, 50), (40, 80, 50), (120, 130, 50), (180, 110, 50)), 20)
    for _ in range(3):
        x, big = chance.between(-110, 110), chance.between(14, 40)
        where = chance.percent(45)
        canvas.paint(
            [limb(x, level + 8, big // 7 + 1, x, level - big, big // 8 + 1)], np.array((84, 62, 46)), where=where
        )
        canvas.paint(
            [ellipse(x, level - big, big * 3 // 4, big), ellipse(x + big // 2, level - big // 2, big // 2, big // 2)],
            leaves,
            where=where,
        )
    tufts = []
    for _ in range(6):
        x, y = chance.between(-110, 110), level + chance.between(10, 90)
        tufts.append(limb(x, y, 2, x + chance.between(-4, 4), y - 9, 1))
    canvas.paint(tufts, darker(ground[1], 25), 170)


def street(canvas: Canvas, chance: Chance) -> None:
    horizon = chance.between(14, 22)
    level = (horizon - 16) * 25 // 4
    canvas.fill(*_ramp(chance, _SKIES))
    town = chance.percent(60)
    for i in range(5):
        left, high = -130 + 52 * i + chance.between(-12, 12), level - chance.between(20, 110)
        wall = chance.pick(((150, 120, 104), (120, 124, 134), (190, 176, 150), (100, 90, 96), (170, 90, 76)), 20)
        block = canvas.paint([box(left, high, left + chance.between(30, 56), level + 6)], wall, where=town)
        windows = [box(left + a, high + b, left + a + 6, high + b + 7) for a in (6, 20, 34) for b in (8, 28, 48, 68)]
        canvas.paint(windows, chance.pick(((60, 70, 90), (240, 220, 140))), 200, within=block)
    hills = [(x, level + chance.between(-40, 4)) for x in range(-160, 161, 64)]
    green = _ramp(chance, _LANDS)
    canvas.paint([outline(*hills, (200, 300), (-200, 300), rounds=2)], green[0], where=~town)
    canvas.fill(*green, horizon, horizon + 3)
    road = chance.pick(((96, 96, 100), (70, 70, 76), (130, 128, 126), (150, 130, 104)), 14)
    canvas.fill(lighter(road, 12), darker(road, 12), horizon + 2)
    dashes = [box(x, 88, x + 34, 93) for x in range(-150, 150, 64)]
    canvas.paint(dashes, WHITE, 200, where=chance.percent(60))


def sea(canvas: Canvas, chance: Chance) -> None:
    horizon = chance.between(10, 22)
    level = (horizon - 16) * 25 // 4
    canvas.fill(*_ramp(chance, _SKIES))
    for _ in range(2):
        x, y, wide = chance.between(-130, 130), chance.between(-110, -40), chance.between(18, 44)
        canvas.paint(
            [ellipse(x, y, wide, wide // 3), ellipse(x + wide // 2, y + 3, wide, wide // 4)],
            WHITE,
            150,
            where=chance.percent(50),
        )
    coast = [(x, level - chance.between(-2, 34)) for x in range(-160, 161, 64)]
    canvas.paint(
        [outline(*coast, (200, 300), (-200, 300), rounds=2)], _ramp(chance, _LANDS)[1], where=chance.percent(40)
    )
    water = _ramp(chance, _WATERS)
    canvas.fill(*water, horizon)
    ripples = []
    for _ in range(6):
        x, y = chance.between(-110, 110), level + chance.between(8, 100)
        ripples.append(limb(x, y, 2, x + chance.between(16, 40), y, 2))
    canvas.paint(ripples, lighter(water[0], 45), 130)
    canvas.water = mix(*water, 65)


def room(canvas: Canvas, chance: Chance) -> None:
    edge = chance.between(17, 25)
    wall = _ramp(chance, _WALLS)
    canvas.fill(*wall)
    stripes = chance.percent(35)
    canvas.paint([box(x, -150, x + 9, 150) for x in range(-140, 140, 28)], darker(wall[0], 18), 160, where=stripes)
    x, y = chance.between(-100, 30), chance.between(-110, -70)
    frame = chance.percent(40)
    canvas.paint([box(x, y, x + 64, y + 56)], chance.pick(FUR), where=frame)
    canvas.paint(
        [box(x + 7, y + 7, x + 57, y + 49)],
        chance.pick(((170, 206, 230), (90, 110, 140), (220, 210, 180))),
        where=frame,
    )
    floor = _ramp(chance, _FLOORS)
    canvas.fill(*floor, edge)
    rug = chance.percent(45)
    canvas.paint([ellipse(chance.between(-40, 40), 92, 110, 26)], chance.pick(PAINT, 25), 220, where=rug)


def blur(canvas: Canvas, chance: Chance) -> None:
    """Soft patches of any colour, as behind a close view."""
    ground = chance.hue(chance.between(20, 140), chance.between(60, 230))
    canvas.fill(ground, mix(ground, chance.hue(100, chance.between(40, 220)), 60))
    for _ in range(6):
        x, y, wide = chance.between(-120, 120), chance.between(-120, 120), chance.between(24, 70)
        tone = mix(ground, chance.hue(chance.between(40, 160), chance.between(60, 240)), 60)
        for part in (100, 70):
            canvas.paint([ellipse(x, y, wide * part // 100, wide * part // 100)], tone, 120)


def pond(canvas: Canvas, chance: Chance) -> None:
    water = chance.pick(((70, 110, 100), (50, 90, 110), (90, 110, 70), (60, 80, 70), (110, 140, 150)), 24)
    canvas.fill(lighter(water, 25), darker(water, 20))
    for _ in range(5):
        x, y, wide = chance.between(-120, 120), chance.between(-100, 110), chance.between(16, 46)
        leaf = chance.pick(((90, 140, 70), (60, 110, 60), (140, 160, 80)), 20)
        canvas.paint([ellipse(x, y, wide, wide // 3)], leaf, where=chance.percent(70))
    for _ in range(3):
        x, lean = chance.between(-110, 110), chance.between(-16, 16)
        canvas.paint([limb(x, 130, 3, x + lean, -40, 2)], np.array((120, 140, 70)), 210, where=chance.percent(60))


def before(canvas: Canvas, chance: Chance, share: int) -> None:
    """Things in front that hide a part of the subject, in about so many percent of the pictures."""
    kind = np.where(chance.percent(share), chance.between(0, 75), 100)
    near = chance.pick(((50, 80, 40), (90, 120, 50), (110, 80, 50), (60, 60, 64), (170, 160, 150)), 24)
    x, lean = chance.between(-100, 100), chance.between(-24, 24)
    canvas.paint([limb(x, -150, chance.between(5, 10), x + lean, 150, chance.between(6, 12))], near, where=kind < 12)
    blades = []
    for _ in range(7):
        x, high, lean = chance.between(-116, 116), chance.between(30, 96), chance.between(-26, 26)
        blades.append(outline((x - 6, 130), (x + lean, 118 - high), (x + 6, 130)))
    canvas.paint(blades, near, where=(kind >= 12) & (kind < 32))
    corner_x, corner_y = 120 * (1 - 2 * chance.between(0, 1)), 120 * (1 - 2 * chance.between(0, 1))
    leaves = [
        ellipse(corner_x + chance.between(-70, 70), corner_y + chance.between(-60, 60), 32, 15, chance.between(0, 179))
        for _ in range(4)
    ]
    canvas.paint(leaves, near, where=(kind >= 32) & (kind < 48))
    rails = [limb(-150, y + lean // 2, 4, 150, y - lean // 2, 4) for y in (30, 66)]
    posts = [limb(post, 10, 5, post, 150, 5) for post in (-84, 6, 96)]
    canvas.paint(rails + posts, near, 240, where=(kind >= 48) & (kind < 56))
    x, y = chance.between(-90, 90), chance.between(-90, 90)
    canvas.paint(
        [ellipse(x, y, chance.between(16, 34), chance.between(16, 34))], near, where=(kind >= 56) & (kind < 68)
    )
    flakes = [ellipse(chance.between(-128, 128), chance.between(-128, 128), 5, 5) for _ in range(12)]
    canvas.paint(flakes, WHITE, 210, where=(kind >= 68) & (kind < 76))
