"""What cartoon10 shows: 24 ways to draw its ten classes, all facing right, about 100 units to either side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cifar_core.drawing import (
    BLACK,
    FUR,
    GLASS,
    PAINT,
    WHITE,
    Canvas,
    Chance,
    Number,
    Whole,
    box,
    darker,
    ellipse,
    lighter,
    limb,
    mix,
    outline,
)

# Vehicles ----------------------------------------------------------------------------------------------------------


def airliner(canvas: Canvas, chance: Chance) -> None:
    """A jet from the side."""
    hull = lighter(chance.pick(PAINT), chance.between(0, 90))
    trim = chance.pick(PAINT)
    thick = chance.between(13, 19)
    sweep = chance.between(24, 48)
    canvas.paint([outline((12, -6), (-sweep, -44), (-sweep + 20, -46), (40, -8))], darker(hull, 35))
    canvas.paint([outline((-90, -thick + 4), (-108, -62), (-84, -62), (-50, -thick + 2))], trim)
    body = canvas.paint(
        [
            outline(
                (-106, -thick + 4),
                (-50, -thick),
                (60, -thick),
                (96, -6),
                (108, 6),
                (84, thick),
                (-40, thick),
                (-84, 6),
                rounds=2,
            )
        ],
        hull,
    )
    canvas.paint([box(-110, 6, 110, 30)], darker(hull, 45), 150, within=body)
    canvas.paint([box(-110, 1, 110, 6)], trim, where=chance.percent(60), within=body)
    canvas.paint([ellipse(x, -5, 4, 5) for x in range(-64, 58, 17)], BLACK, 210, within=body)
    canvas.paint([outline((72, -14), (92, -10), (96, -2), (70, -3))], BLACK, within=body)
    canvas.paint([outline((-84, -2), (-112, 10), (-96, 13), (-58, 3))], darker(hull, 20))
    canvas.paint([ellipse(2, 30, 18, 9)], trim, where=chance.percent(70))
    canvas.paint([outline((30, 4), (-sweep - 12, 62), (-sweep + 12, 64), (64, 8))], darker(hull, 12))


def plane_from_above(canvas: Canvas, chance: Chance) -> None:
    """A jet from above or below: both wings are seen."""
    hull = lighter(chance.pick(PAINT), chance.between(20, 90))
    trim = chance.pick(PAINT)
    back = chance.between(-40, -10)
    engines = chance.percent(65)
    wing = darker(hull, 18)
    for side in (-1, 1):
        canvas.paint([ellipse(14, side * 38, 17, 8), ellipse(-4, side * 66, 15, 7)], trim, where=engines)
        canvas.paint(
            [
                outline((40, side * 8), (back, side * 104), (back - 22, side * 104), (-22, side * 8)),
                outline((-70, side * 5), (-92, side * 42), (-106, side * 42), (-98, side * 4)),
            ],
            wing,
        )
        canvas.paint([outline((back + 12, side * 84), (back, side * 104), (back - 22, side * 104))], trim)
    body = canvas.paint([limb(-88, 0, 7, -40, 0, 13), limb(-40, 0, 13, 86, 0, 13), ellipse(92, 0, 22, 11)], hull)
    canvas.paint([box(-120, 3, 120, 20)], darker(hull, 40), 150, within=body)
    canvas.paint([outline((84, -9), (100, -6), (100, 6), (84, 9))], BLACK, within=body)
    canvas.paint([limb(-104, 0, 3, -62, 0, 4)], trim)


def propeller_plane(canvas: Canvas, chance: Chance) -> None:
    """A small plane with one engine, its wing above or below."""
    hull, trim = chance.pick(PAINT, 25), chance.pick(PAINT, 25)
    above = chance.percent(60)
    canvas.paint([outline((-84, -4), (-102, -50), (-84, -54), (-56, -10), rounds=1)], trim)
    canvas.paint([limb(-10, 20, 3, -14, 46, 3), limb(36, 20, 3, 44, 46, 3)], BLACK)
    canvas.paint([ellipse(-14, 48, 10, 10), ellipse(45, 48, 10, 10)], BLACK)
    canvas.paint([outline((-104, -8), (-30, -22), (40, -24), (84, -14), (84, 16), (40, 26), (-20, 20), rounds=2)], hull)
    canvas.paint([outline((-14, -20), (-4, -46), (28, -46), (46, -20))], mix(hull, (120, 170, 205), 80))
    canvas.paint([limb(-104, -8, 4, -70, -4, 6)], darker(hull))
    canvas.paint([limb(-34, -50, 8, 46, -50, 8), limb(0, -46, 3, 6, 4, 3)], trim, where=above)
    canvas.paint([outline((36, 4), (-20, 44), (-46, 42), (-18, 4), rounds=1)], trim, where=~above)
    canvas.paint([ellipse(88, 0, 9, 9)], darker(trim))
    canvas.paint([ellipse(100, 0, 5, 44)], lighter(trim, 60), 130)


def _wheels(canvas: Canvas, places: list[tuple[Number, Number]], radius: Number) -> None:
    canvas.paint([ellipse(x, y, radius, radius) for x, y in places], BLACK)
    canvas.paint([ellipse(x, y, radius * 45 // 100, radius * 45 // 100) for x, y in places], np.array((176, 178, 184)))


def car(canvas: Canvas, chance: Chance) -> None:
    """A car from the side: saloon, hatchback, beetle or convertible, as chance has it."""
    paint = chance.pick(PAINT, 25)
    glass = chance.pick(GLASS)
    roof = chance.between(-62, -46)
    back = chance.between(-92, -58)
    front = chance.between(44, 66)
    nose = chance.between(-14, -6)
    canvas.paint([ellipse(0, 44, 108, 9)], BLACK, 110)
    cabin = canvas.paint(
        [outline((back, -8), (back + 26, roof), (front - 44, roof), (front, -8), rounds=1)],
        mix(paint, WHITE, 10 * chance.between(0, 1)),
    )
    canvas.paint(
        [
            outline((back + 14, -12), (back + 34, roof + 9), (-12, roof + 9), (-12, -12)),
            outline((-4, -12), (-4, roof + 9), (front - 48, roof + 9), (front - 12, -12)),
        ],
        glass,
        within=cabin,
    )
    body = canvas.paint(
        [outline((-106, 34), (-108, nose - 2), (-60, -16), (50, -16), (100, nose + 4), (110, 14), (106, 34), rounds=1)],
        paint,
    )
    canvas.paint([box(-120, 16, 120, 50)], darker(paint, 40), 150, within=body)
    canvas.paint([box(-120, -14, 120, -8)], WHITE, 90, within=body)
    canvas.paint([limb(-8, -12, 2, -8, 28, 2), limb(4, -2, 2, 14, -2, 2)], darker(paint, 60), within=body)
    canvas.paint([ellipse(-60, 34, 29, 29), ellipse(60, 34, 29, 29)], darker(paint, 70), within=body)
    canvas.paint([ellipse(99, 6, 9, 7)], np.array((255, 240, 170)))
    canvas.paint([ellipse(-103, 4, 6, 7)], np.array((220, 40, 40)))
    _wheels(canvas, [(-60, 34), (60, 34)], chance.between(21, 26))


def car_from_the_front(canvas: Canvas, chance: Chance) -> None:
    paint = chance.pick(PAINT, 25)
    glass = chance.pick(GLASS)
    roof = chance.between(-64, -48)
    canvas.paint([ellipse(0, 58, 92, 9)], BLACK, 110)
    canvas.paint([limb(-58, 36, 15, -58, 50, 14), limb(58, 36, 15, 58, 50, 14)], BLACK)
    canvas.paint([ellipse(-80, -12, 10, 7), ellipse(80, -12, 10, 7)], darker(paint, 40))
    cabin = canvas.paint([outline((-74, 0), (-50, roof), (50, roof), (74, 0), rounds=1)], paint)
    canvas.paint([outline((-58, -8), (-42, roof + 10), (42, roof + 10), (58, -8))], glass, within=cabin)
    canvas.paint([outline((10, -8), (24, roof + 10), (36, roof + 10), (26, -8))], WHITE, 110, within=cabin)
    body = canvas.paint([outline((-84, 46), (-86, 4), (-66, -10), (66, -10), (86, 4), (84, 46), rounds=1)], paint)
    canvas.paint([box(-90, -12, 90, -3)], WHITE, 80, within=body)
    canvas.paint([limb(-30, 16, 9, 30, 16, 9)], darker(paint, 75))
    canvas.paint([box(-86, 32, 86, 50)], darker(paint, 50), 200, within=body)
    canvas.paint([box(-18, 30, 18, 40)], WHITE)
    canvas.paint([ellipse(-60, 12, 16, 12), ellipse(60, 12, 16, 12)], np.array((255, 246, 200)))


def truck(canvas: Canvas, chance: Chance) -> None:
    """A lorry with a box behind the cab, or a long trailer."""
    cab = chance.pick(PAINT, 25)
    load = chance.pick((*PAINT, (240, 240, 236), (200, 202, 206)), 25)
    top = chance.between(-76, -56)
    roof = chance.between(-48, -28)
    canvas.paint([ellipse(0, 56, 112, 8)], BLACK, 110)
    canvas.paint([box(-108, 22, 100, 38)], np.array((44, 44, 48)))
    front = canvas.paint(
        [outline((46, 36), (46, roof), (82, roof), (102, -2), (110, 8), (110, 36)), ellipse(52, roof + 6, 8, 8)], cab
    )
    canvas.paint([outline((60, roof + 8), (80, roof + 8), (95, -2), (60, -2))], chance.pick(GLASS), within=front)
    canvas.paint([box(46, 24, 112, 40)], darker(cab, 50), within=front)
    canvas.paint([ellipse(105, 16, 6, 6)], np.array((255, 240, 170)))
    freight = canvas.paint([box(-112, top, 40, 26)], load)
    canvas.paint([box(-112, top, 40, top + 8)], lighter(load, 60), 160, within=freight)
    canvas.paint([box(-112, 12, 40, 30)], darker(load, 45), 170, within=freight)
    mark = chance.between(0, 3)
    sign = chance.pick(PAINT)
    canvas.paint([box(-112, -32, 40, -18)], sign, where=mark == 0, within=freight)
    canvas.paint([ellipse(-36, -24, 24, 19)], sign, where=mark == 1, within=freight)
    canvas.paint(
        [box(x, top, x + 4, 24) for x in range(-90, 30, 22)], darker(load, 45), where=mark == 2, within=freight
    )
    long = chance.between(-20, -6)
    _wheels(canvas, [(-82, 40), (long - 20, 40), (76, 40)], 20)


def tipper(canvas: Canvas, chance: Chance) -> None:
    """A lorry with an open bed, full or empty."""
    cab = chance.pick(PAINT, 25)
    bed = mix(cab, chance.pick(PAINT), 50)
    roof = chance.between(-66, -48)
    full = chance.percent(65)
    canvas.paint([ellipse(0, 56, 112, 8)], BLACK, 110)
    canvas.paint([box(-100, 20, 100, 36)], np.array((44, 44, 48)))
    heap = chance.pick(((140, 110, 76), (110, 110, 112), (196, 172, 120), (80, 110, 60)))
    high = chance.between(-66, -46)
    canvas.paint([outline((-100, -24), (-56, high), (-20, high + 6), (24, -24), rounds=2)], heap, where=full)
    tray = canvas.paint([outline((-116, -34), (36, -34), (28, 24), (-96, 24))], bed)
    canvas.paint([box(-116, -34, 40, -26)], lighter(bed, 45), within=tray)
    canvas.paint([box(x, -26, x + 5, 26) for x in (-82, -50, -18, 12)], darker(bed, 40), within=tray)
    front = canvas.paint([outline((44, 34), (44, roof), (88, roof), (104, -14), (110, 34), rounds=1)], cab)
    canvas.paint([outline((56, roof + 10), (84, roof + 10), (97, -16), (56, -16))], chance.pick(GLASS), within=front)
    canvas.paint([box(40, 18, 120, 40)], darker(cab, 50), within=front)
    canvas.paint([ellipse(103, 10, 6, 6)], np.array((255, 240, 170)))
    _wheels(canvas, [(-70, 38), (-24, 38), (74, 38)], 21)


def fire_engine(canvas: Canvas, chance: Chance) -> None:
    paint = chance.pick(((206, 30, 28), (206, 30, 28), (224, 200, 40), (230, 90, 30)))
    canvas.paint([ellipse(0, 56, 112, 8)], BLACK, 110)
    lift = chance.between(0, 26)
    canvas.paint([limb(-100, -44, 4, 70, -46 - lift, 4), limb(-100, -58, 4, 70, -60 - lift, 4)], np.array((190,) * 3))
    canvas.paint(
        [limb(x, -44 - (x + 100) * lift // 170, 3, x, -58 - (x + 100) * lift // 170, 3) for x in range(-86, 70, 24)],
        np.array((190,) * 3),
    )
    body = canvas.paint(
        [box(-110, -36, 50, 36), outline((44, 36), (44, -50), (90, -50), (106, -8), (110, 36), rounds=1)], paint
    )
    canvas.paint([outline((62, -40), (86, -40), (98, -10), (62, -10))], chance.pick(GLASS), within=body)
    canvas.paint([box(-112, 4, 112, 13)], WHITE, within=body)
    canvas.paint([box(x, -26, x + 22, -4) for x in (-100, -70, -40, -10)], np.array((200, 204, 210)), within=body)
    canvas.paint([box(-112, 24, 112, 40)], darker(paint, 50), within=body)
    canvas.paint([ellipse(70, -56, 10, 8)], np.array((60, 130, 255)))
    _wheels(canvas, [(-70, 38), (-20, 38), (74, 38)], 20)


def steamer(canvas: Canvas, chance: Chance) -> None:
    hull, funnel = chance.pick(PAINT, 25), chance.pick(PAINT, 25)
    white = lighter(chance.pick(PAINT), chance.between(60, 95))
    puffs = chance.percent(50)
    for i in range(4):
        smoke = ellipse(-16 - 26 * i, -84 - 9 * i + chance.between(-5, 5), 11 + 5 * i, 9 + 3 * i)
        canvas.paint([smoke], np.array((200, 198, 196)), 190 - 34 * i, where=puffs)
    two = chance.percent(50)
    for x, shown in ((-8, None), (30, two)):
        canvas.paint([outline((x - 11, -34), (x - 13, -76), (x + 9, -76), (x + 13, -34))], funnel, where=shown)
        canvas.paint([box(x - 13, -76, x + 10, -66)], BLACK, where=shown)
    canvas.paint([limb(66, 0, 2, 66, -70, 2), limb(-76, 0, 2, -76, -52, 2)], BLACK)
    decks = canvas.paint([box(-66, -16, 64, 14), box(-46, -36, 46, -10)], white)
    canvas.paint([ellipse(x, 0, 5, 5) for x in range(-54, 60, 18)], np.array((50, 66, 90)), within=decks)
    canvas.paint([box(-40, -28, 40, -21)], np.array((50, 66, 90)), within=decks)
    sides = canvas.paint([outline((-104, 4), (-96, 12), (60, 12), (112, -6), (84, 56), (-84, 56))], hull)
    canvas.paint([box(-120, 36, 120, 60)], mix(hull, (150, 40, 40), 70), within=sides)
    canvas.paint([box(-120, 10, 120, 16)], WHITE, 190, within=sides)
    _water_before(canvas, chance, 44)


def sailing_ship(canvas: Canvas, chance: Chance) -> None:
    hull = chance.pick(((110, 66, 36), (70, 44, 30), (240, 240, 236), (30, 60, 110), (150, 40, 36)), 20)
    sail = chance.pick(((246, 242, 230), (246, 242, 230), (230, 206, 160), (200, 60, 50), (70, 120, 170)), 12)
    full = chance.between(0, 22)
    top = chance.between(-112, -92)
    two = chance.percent(45)
    canvas.paint([limb(0, 30, 3, 0, top, 3)], np.array((90, 62, 40)))
    canvas.paint([limb(-56, 30, 3, -56, top + 30, 3)], np.array((90, 62, 40)), where=two)
    main = canvas.paint(
        [outline((-6, top + 6), (-26 - full, -30), (-76, 14), (-6, 14)), outline((-6, top + 6), (-6, 14), (-60, 14))],
        sail,
        where=~two,
    )
    canvas.paint([box(-90, -36, 0, -22)], darker(sail, 30), within=main)
    belly = full // 2
    square = canvas.paint(
        [
            outline((-26, top + 6), (24, top + 6), (34 + belly, -42), (-32, -42)),
            outline((-34, -36), (38, -36), (46 + belly, 12), (-36, 12)),
            outline((-82, top + 36), (-36, top + 36), (-30 + belly, -30), (-86, -30)),
            outline((-88, -24), (-32, -24), (-26 + belly, 14), (-90, 14)),
        ],
        sail,
        where=two,
    )
    canvas.paint([box(14, -140, 60, 20), box(-48, -140, -34, 20)], darker(sail, 30), 150, within=square)
    canvas.paint([outline((44, -44), (96, 8), (44, 12))], darker(sail, 20), where=two)
    canvas.paint([outline((8, top + 12), (30 + full, -26), (88, 12), (8, 12))], darker(sail, 14), where=~two)
    canvas.paint([outline((0, top), (30, top + 8), (0, top + 16))], chance.pick(PAINT))
    sides = canvas.paint([outline((-94, 8), (-84, 22), (70, 22), (108, 6), (76, 60), (-70, 60), rounds=1)], hull)
    canvas.paint([box(-120, 26, 120, 32)], lighter(hull, 60), 190, within=sides)
    _water_before(canvas, chance, 46)


def container_ship(canvas: Canvas, chance: Chance) -> None:
    hull = chance.pick(PAINT, 25)
    for row, y in enumerate((-38, -18, 2)):
        for place, x in enumerate(range(-56, 70, 26)):
            load = chance.percent(60 if row == 0 else 94)
            if place % 2 == 0 or row != 1:
                colour = chance.pick(PAINT, 20)
            canvas.paint([box(x, y, x + 24, y + 19)], colour, where=load)
    house = canvas.paint([box(-100, -62, -62, 22), box(-106, -64, -56, -52)], WHITE)
    canvas.paint([box(-110, -48, -50, -40), box(-110, -26, -50, -20)], np.array((50, 66, 90)), within=house)
    canvas.paint([box(-90, -84, -74, -62)], chance.pick(PAINT))
    sides = canvas.paint([outline((-112, 16), (78, 20), (118, 6), (94, 58), (-104, 58))], hull)
    canvas.paint([box(-120, 42, 120, 60)], mix(hull, (150, 40, 40), 70), within=sides)
    _water_before(canvas, chance, 48)


def _water_before(canvas: Canvas, chance: Chance, level: int) -> None:
    """Waves that hide the keel, in the colour of the water there."""
    below = canvas.water
    crest = [(x, level + (5 if i % 2 else -3) + chance.between(-3, 3)) for i, x in enumerate(range(-400, 401, 50))]
    canvas.paint([outline(*crest, (400, 400), (-400, 400), rounds=1)], below)
    foam = [limb(x, y + 6, 2, x + 34, y + 5, 2) for x, y in crest[5:12:2]]
    canvas.paint(foam, lighter(below, 70), 170)


# Animals -----------------------------------------------------------------------------------------------------------


def _eye(canvas: Canvas, x: Number, y: Number, radius: Number, iris: Whole | None = None) -> None:
    if iris is not None:
        canvas.paint([ellipse(x, y, radius, radius)], iris)
        radius = radius * 55 // 100
    canvas.paint([ellipse(x, y, radius, radius)], BLACK)
    canvas.paint([ellipse(x + radius // 3, y - radius // 3, radius // 3 + 1, radius // 3 + 1)], WHITE)


def _legs(
    canvas: Canvas,
    chance: Chance,
    hips: tuple[Number, Number, Number, Number],
    ground: int,
    wide: int,
    foot: int,
    colour: Whole,
    hoof: Whole | None = None,
    stride: int = 16,
) -> None:
    """Four legs of a walk, the far ones darker; hips: where the hind and the fore legs begin, (x, y, x, y)."""
    swing = chance.between(-stride, stride)
    lift = chance.between(0, 14)
    for far in (1, 0):
        shade = darker(colour, 34 * far)
        for x, y, way in ((hips[0], hips[1], 1), (hips[2], hips[3], -1)):
            sway = swing * way * (1 - 2 * far)
            start = x + 10 * far * way
            toe, sole = start + sway, ground - lift * far
            knee = start + sway // 2 - way * 5
            half = (y + sole) // 2
            canvas.paint([limb(start, y, wide + 2, knee, half, wide), limb(knee, half, wide, toe, sole, foot)], shade)
            if hoof is not None:
                canvas.paint([limb(toe, sole, foot + 1, toe + 4, sole + 3, foot)], hoof)
            else:
                canvas.paint([limb(toe, sole, foot, toe + 7, sole + 2, foot)], shade)


def sitting_cat(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(FUR, 20)
    pale = lighter(fur, chance.between(20, 80))
    stripe = darker(fur, 55)
    eyes = chance.pick(((120, 190, 70), (230, 190, 50), (90, 170, 220)), 15)
    side = 1 - 2 * chance.between(0, 1)
    tip = chance.between(-30, 30)
    canvas.paint(
        [
            limb(side * 30, 84, 10, side * 74, 74, 10),
            limb(side * 74, 74, 10, side * 86, 40, 9),
            limb(side * 86, 40, 9, side * (76 + tip // 2), 4, 8),
        ],
        darker(fur, 15),
    )
    body = canvas.paint([outline((-60, 98), (-50, 40), (-30, 0), (30, 0), (50, 40), (60, 98), rounds=2)], fur)
    striped = chance.percent(55)
    canvas.paint(
        [limb(s * 50, y, 5, s * 24, y + 6, 3) for s in (-1, 1) for y in (30, 50, 70)],
        stripe,
        where=striped,
        within=body,
    )
    canvas.paint([ellipse(0, 50, 22, 36)], pale, within=body)
    canvas.paint([limb(-14, 60, 9, -15, 92, 11), limb(14, 60, 9, 15, 92, 11)], lighter(fur, 12))
    canvas.paint([limb(0, 66, 1, 0, 96, 1)], stripe)
    nod = chance.between(-8, 8)
    _cat_head(canvas, nod, -38, 100, fur, pale, stripe, eyes, striped)


def cat_face(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(FUR, 20)
    eyes = chance.pick(((120, 190, 70), (230, 190, 50), (90, 170, 220)), 15)
    canvas.paint([outline((-70, 130), (-56, 50), (56, 50), (70, 130), rounds=1)], darker(fur, 15))
    pale = lighter(fur, chance.between(20, 80))
    _cat_head(canvas, 0, 8, 165, fur, pale, darker(fur, 55), eyes, chance.percent(55))


def _cat_head(
    canvas: Canvas,
    x: Number,
    y: Number,
    size: int,
    fur: Whole,
    pale: Whole,
    stripe: Whole,
    eyes: Whole,
    striped: NDArray[np.bool_],
) -> None:
    """From the front; size in percent."""

    def at(dx: int, dy: int) -> tuple[Number, Number]:
        return x + dx * size // 100, y + dy * size // 100

    def of(length: int) -> int:
        return max(length * size // 100, 1)

    ears = [outline(at(s * 44, -8), at(s * 44, -62), at(s * 8, -34)) for s in (-1, 1)]
    canvas.paint(ears, fur)
    canvas.paint(
        [outline(at(s * 37, -20), at(s * 39, -50), at(s * 18, -34)) for s in (-1, 1)], np.array((226, 150, 150))
    )
    head = canvas.paint([ellipse(*at(0, 0), of(48), of(38)), ellipse(*at(0, 10), of(40), of(30))], fur)
    bars = [limb(*at(dx, -38), of(4), *at(dx, -22), of(3)) for dx in (-12, 0, 12)]
    bars += [limb(*at(s * 50, dy), of(4), *at(s * 34, dy + 2), of(2)) for s in (-1, 1) for dy in (-2, 12)]
    canvas.paint(bars, stripe, where=striped, within=head)
    canvas.paint([ellipse(*at(-9, 17), of(14), of(11)), ellipse(*at(9, 17), of(14), of(11))], pale, within=head)
    canvas.paint([ellipse(*at(s * 20, -5), of(11), of(11)) for s in (-1, 1)], eyes)
    canvas.paint([ellipse(*at(s * 20, -5), of(4), of(10)) for s in (-1, 1)], BLACK)
    canvas.paint([outline(at(-7, 8), at(7, 8), at(0, 17))], np.array((220, 110, 120)))
    whiskers = [limb(*at(s * 18, 18), of(1), *at(s * 58, dy), of(1)) for s in (-1, 1) for dy in (10, 24)]
    canvas.paint(whiskers, WHITE, 190)


def walking_cat(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(FUR, 20)
    pale = lighter(fur, chance.between(20, 80))
    stripe = darker(fur, 55)
    eyes = chance.pick(((120, 190, 70), (230, 190, 50), (90, 170, 220)), 15)
    curl = chance.between(-24, 24)
    striped = chance.percent(55)
    canvas.paint(
        [
            limb(-52, -4, 10, -88, -24, 8),
            limb(-88, -24, 8, -94 + curl // 2, -58, 7),
            limb(-94 + curl // 2, -58, 7, -84 + curl, -88, 7),
        ],
        darker(fur, 12),
    )
    _legs(canvas, chance, (-48, 18, 40, 18), 70, 10, 8, fur, stride=22)
    body = canvas.paint([limb(-44, 4, 27, 36, 6, 24)], fur)
    canvas.paint([limb(x, -30, 5, x + 4, 8, 3) for x in range(-58, 40, 18)], stripe, where=striped, within=body)
    canvas.paint([ellipse(-6, 34, 44, 12)], pale, within=body)
    nod = chance.between(-12, 16)
    _cat_head(canvas, 62, -26 + nod, 84, fur, pale, stripe, eyes, striped)


def standing_dog(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(FUR, 20)
    dark = darker(fur, chance.between(30, 65))
    pale = lighter(fur, chance.between(10, 70))
    wag = chance.between(-26, 26)
    canvas.paint([limb(-58, -12, 9, -84, -38, 7), limb(-84, -38, 7, -100 + wag // 2, -66, 5)], fur)
    _legs(canvas, chance, (-48, 14, 42, 14), 78, 11, 9, fur, stride=20)
    body = canvas.paint([limb(-48, -2, 25, 38, 0, 30), limb(34, -8, 24, 62, -42, 18)], fur)
    spot = chance.between(-40, 20)
    canvas.paint([ellipse(spot, -14, 28, 22)], dark, where=chance.percent(50), within=body)
    canvas.paint([ellipse(40, 30, 26, 16)], pale, within=body)
    canvas.paint([limb(46, -28, 5, 74, -18, 5)], chance.pick(PAINT), where=chance.percent(60))
    nod = chance.between(-12, 12)
    head = canvas.paint([ellipse(70, -52 + nod, 28, 25), limb(84, -46 + nod, 17, 112, -40 + nod, 12)], fur)
    canvas.paint([limb(92, -32 + nod, 10, 116, -30 + nod, 8)], pale, within=head)
    canvas.paint([limb(104, -26 + nod, 6, 106, -14 + nod, 6)], np.array((230, 110, 120)), where=chance.percent(45))
    canvas.paint([ellipse(119, -47 + nod, 9, 8)], BLACK)
    ear = outline((52, -74 + nod), (36, -64 + nod), (34, -22 + nod), (52, -14 + nod), (66, -46 + nod), rounds=2)
    canvas.paint([ear], dark)
    _eye(canvas, 82, -58 + nod, 6)


def dog_face(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(FUR, 20)
    dark = darker(fur, chance.between(35, 65))
    pale = lighter(fur, chance.between(30, 85))
    canvas.paint([outline((-60, 130), (-44, 60), (44, 60), (60, 130), rounds=1)], darker(fur, 12))
    canvas.paint([limb(-44, 84, 8, 44, 84, 8)], chance.pick(PAINT), where=chance.percent(60))
    head = canvas.paint([ellipse(0, -14, 66, 62), ellipse(0, 30, 52, 46)], fur)
    patch = 1 - 2 * chance.between(0, 1)
    canvas.paint([ellipse(patch * 32, -20, 28, 32)], dark, where=chance.percent(40), within=head)
    canvas.paint([limb(0, -70, 8, 0, -10, 12)], pale, where=chance.percent(50), within=head)
    droop = chance.between(-10, 14)
    ears = [
        outline((s * 40, -72), (s * 78, -62), (s * 98, 10 + droop), (s * 76, 34 + droop), (s * 60, -10), rounds=2)
        for s in (-1, 1)
    ]
    canvas.paint(ears, dark)
    canvas.paint([limb(0, 66, 16, 0, 84, 14)], np.array((230, 110, 120)), where=chance.percent(60))
    canvas.paint([ellipse(-17, 40, 28, 25), ellipse(17, 40, 28, 25), ellipse(0, 24, 22, 24)], pale)
    canvas.paint([limb(0, 36, 2, 0, 54, 2), limb(0, 56, 3, -22, 62, 2), limb(0, 56, 3, 22, 62, 2)], BLACK)
    canvas.paint([ellipse(0, 20, 20, 14)], BLACK)
    canvas.paint([ellipse(-5, 15, 5, 3)], WHITE, 200)
    for side in (-1, 1):
        _eye(canvas, side * 28, -18, 11)


def _antlers(canvas: Canvas, chance: Chance, x: Number, y: Number, where: NDArray[np.bool_], both: bool) -> None:
    bone = chance.pick(((206, 184, 150), (120, 90, 60), (230, 216, 190)))
    for side in (-1, 1) if both else (0, 1):
        lean = chance.between(8, 20)
        way = side if both else 1 - 2 * (1 - side)
        root = x + (14 * way if both else 5 * way)
        bend = root + way * (28 + lean), y - 34
        tip = root + way * (22 + lean), y - 70
        shapes = [
            limb(root, y, 5, *bend, 4),
            limb(*bend, 4, *tip, 3),
            limb(root + way * (12 + lean // 2), y - 16, 4, root + way * 6, y - 46, 3),
            limb(*bend, 4, root + way * (50 + lean), y - 56, 3),
        ]
        canvas.paint(shapes, darker(bone, 0 if both or side else 25), where=where)


def deer(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(((150, 98, 56), (184, 126, 76), (120, 84, 60), (196, 150, 104), (110, 96, 84)), 18)
    pale = lighter(fur, 65)
    stag = chance.percent(70)
    nod = chance.between(-10, 10)
    _legs(canvas, chance, (-46, 10, 38, 10), 92, 7, 4, fur, np.array((40, 34, 30)), stride=18)
    canvas.paint([ellipse(-72, -16, 9, 14, 20)], WHITE)
    body = canvas.paint([limb(-46, -4, 23, 34, -4, 22), limb(36, -10, 17, 62 + nod // 2, -62, 9)], fur)
    canvas.paint([ellipse(-6, 22, 52, 11)], pale, within=body)
    canvas.paint([ellipse(-66, -2, 14, 16)], pale, within=body)
    spots = [ellipse(px, py, 4, 4) for px, py in ((-50, -16), (-30, -18), (-10, -14), (10, -16), (-40, -4), (-18, -2))]
    canvas.paint(spots, WHITE, 220, where=chance.percent(50), within=body)
    x = 66 + nod // 2
    canvas.paint([outline((x - 10, -72), (x - 38, -88), (x - 30, -68), (x - 8, -60), rounds=1)], darker(fur, 20))
    _antlers(canvas, chance, x, -78, stag, both=False)
    canvas.paint([limb(x, -70, 13, x + 32, -56 + nod // 3, 7)], fur)
    canvas.paint([ellipse(x + 38, -55 + nod // 3, 6, 6)], BLACK)
    _eye(canvas, x + 6, -73, 5)


def deer_face(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(((150, 98, 56), (184, 126, 76), (120, 84, 60), (196, 150, 104), (110, 96, 84)), 18)
    canvas.paint([outline((-56, 140), (-30, 50), (30, 50), (56, 140), rounds=1)], darker(fur, 12))
    _antlers(canvas, chance, 0, -34, np.ones(len(fur), bool), both=True)
    ears = [outline((s * 22, -16), (s * 60, -40), (s * 84, -28), (s * 60, -6), (s * 26, 2), rounds=2) for s in (-1, 1)]
    canvas.paint(ears, fur)
    canvas.paint([ellipse(s * 56, -22, 18, 7, -s * 20) for s in (-1, 1)], np.array((226, 176, 160)))
    head = canvas.paint([outline((-38, -30), (38, -30), (34, 20), (20, 76), (-20, 76), (-34, 20), rounds=2)], fur)
    canvas.paint([ellipse(0, 62, 20, 22)], lighter(fur, 70), within=head)
    canvas.paint([ellipse(s * 24, 4, 13, 12) for s in (-1, 1)], lighter(fur, 50), within=head)
    canvas.paint([ellipse(0, 60, 14, 10)], BLACK)
    for side in (-1, 1):
        _eye(canvas, side * 25, 4, 9)


def horse(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(((120, 70, 40), (90, 50, 34), (50, 44, 44), (190, 130, 76), (226, 220, 212), (150, 146, 146)), 18)
    hair = np.where(chance.percent(50)[:, None], darker(fur, 65), lighter(fur, 60))
    nod = chance.between(-8, 12)
    swish = chance.between(-18, 14)
    canvas.paint(
        [
            outline(
                (-66, -30),
                (-92, -26),
                (-110 + swish, 20),
                (-98 + swish, 64),
                (-82 + swish // 2, 26),
                (-66, -6),
                rounds=2,
            )
        ],
        hair,
    )
    _legs(canvas, chance, (-50, 4, 42, 6), 90, 11, 7, fur, darker(fur, 70), stride=34)
    body = canvas.paint(
        [
            limb(-46, -14, 29, 38, -12, 28),
            outline((14, -34), (54, -86), (86 + nod // 2, -86), (78, -44), (66, 0), rounds=1),
        ],
        fur,
    )
    canvas.paint([ellipse(-6, 20, 60, 14)], darker(fur, 35), 160, within=body)
    saddle = chance.percent(35)
    canvas.paint([outline((-26, -46), (12, -46), (8, -14), (-20, -14), rounds=1)], chance.pick(PAINT), where=saddle)
    x, y = 78 + nod // 2, -84 + nod // 3
    canvas.paint([outline((x - 14, y - 8), (x - 10, y - 32), (x, y - 10))], darker(fur, 15))
    head = canvas.paint([limb(x, y, 17, x + 34, y + 28, 11)], fur)
    canvas.paint([limb(x + 4, y - 6, 4, x + 36, y + 20, 4)], WHITE, where=chance.percent(40), within=head)
    canvas.paint([ellipse(x + 36, y + 32, 10, 9)], darker(fur, 40))
    mane = outline(
        (x - 2, y - 22), (x - 24, y - 16), (30, -62), (2, -30), (30, -34), (56, -62), (x - 4, y - 4), rounds=1
    )
    canvas.paint([mane], hair)
    _eye(canvas, x + 6, y, 5)


def horse_head(canvas: Canvas, chance: Chance) -> None:
    fur = chance.pick(((120, 70, 40), (90, 50, 34), (50, 44, 44), (190, 130, 76), (226, 220, 212), (150, 146, 146)), 18)
    hair = np.where(chance.percent(50)[:, None], darker(fur, 65), lighter(fur, 60))
    nod = chance.between(-10, 10)
    canvas.paint(
        [outline((-14, -70), (-6, -104), (10, -70)), outline((4, -70), (16, -102), (26, -66))], darker(fur, 15)
    )
    canvas.paint([outline((-96, 130), (-80, 20), (-34, -64), (14, -60), (30, 10), (16, 60), (10, 130), rounds=1)], fur)
    head = canvas.paint(
        [
            outline(
                (-24, -70),
                (24, -74),
                (50, -20),
                (96, 46 + nod),
                (86, 76 + nod),
                (56, 76 + nod),
                (10, 16),
                (-24, -6),
                rounds=2,
            )
        ],
        fur,
    )
    canvas.paint([limb(20, -56, 6, 84, 50 + nod, 7)], WHITE, where=chance.percent(45), within=head)
    canvas.paint([ellipse(78, 70 + nod, 24, 14)], darker(fur, 35), within=head)
    canvas.paint([ellipse(84, 56 + nod, 6, 5)], BLACK)
    reins = chance.percent(45)
    canvas.paint([limb(46, -20, 3, 26, 24, 3), limb(26, 24, 3, -20, -40, 3)], chance.pick(PAINT), where=reins)
    strands = outline(
        (18, -88),
        (-24, -84),
        (-76, -20),
        (-104, 60),
        (-110, 130),
        (-74, 130),
        (-66, 50),
        (-36, -10),
        (-10, -50),
        (24, -40),
        rounds=1,
    )
    canvas.paint([strands], hair)
    _eye(canvas, 24, -34, 9)


def perched_bird(canvas: Canvas, chance: Chance) -> None:
    plumage = np.where(
        chance.percent(70)[:, None], chance.hue(chance.between(90, 220), chance.between(90, 230)), chance.pick(FUR)
    )
    wing = darker(plumage, chance.between(25, 60))
    belly = np.where(chance.percent(60)[:, None], lighter(plumage, 65), chance.pick(((230, 120, 60), (240, 220, 120))))
    beak = chance.pick(((240, 160, 40), (60, 56, 54), (220, 90, 40)))
    raise_ = chance.between(-10, 10)
    branch = chance.percent(65)
    wood = chance.pick(((104, 74, 48), (70, 54, 42), (130, 110, 90)))
    canvas.paint([outline((-34, 12), (-112, 40 + raise_), (-106, 58 + raise_), (-24, 40))], wing)
    canvas.paint([limb(-4, 44, 3, 0, 74, 3), limb(18, 44, 3, 22, 74, 3)], beak)
    canvas.paint([limb(0, 76, 3, 12, 76, 3), limb(22, 76, 3, 34, 76, 3)], beak)
    canvas.paint([limb(-150, 84, 7, 150, 78 + raise_, 5), limb(60, 82, 4, 110, 50, 3)], wood, where=branch)
    canvas.paint([outline((60, -44), (100, -30), (62, -22))], beak)
    body = canvas.paint([ellipse(0, 12, 54, 38, -28), ellipse(40, -36, 29, 28), limb(10, 0, 34, 36, -28, 24)], plumage)
    canvas.paint([ellipse(34, 26, 34, 36, -30)], belly, within=body)
    canvas.paint([ellipse(40, -58, 30, 14)], wing, where=chance.percent(45), within=body)
    canvas.paint([outline((-60, 34), (-30, -14), (10, -10), (20, 14), (-14, 36), rounds=2)], wing)
    canvas.paint([limb(-40, 24, 3, 8, 12, 3)], lighter(wing, 50), where=chance.percent(50))
    _eye(canvas, 48, -40, 8)


def flying_bird(canvas: Canvas, chance: Chance) -> None:
    plumage = np.where(
        chance.percent(50)[:, None], chance.hue(chance.between(60, 200), chance.between(90, 230)), chance.pick(FUR)
    )
    wing = darker(plumage, chance.between(10, 45))
    tip = darker(wing, 50)
    beak = chance.pick(((240, 160, 40), (60, 56, 54), (220, 90, 40)))
    beat = chance.between(55, 100) * np.where(chance.percent(75), 1, -1)

    def up(y: int) -> Whole:
        return y * beat // 100

    far = [outline((40, -4), (74, up(-60)), (92, up(-112)), (60, up(-84)), (16, up(-48)), (2, -2))]
    canvas.paint(far, darker(wing, 30))
    canvas.paint([outline((-40, -6), (-108, -20), (-98, 0), (-110, 16), (-36, 10))], wing)
    canvas.paint([outline((80, -14), (112, -4), (80, 2))], beak)
    body = canvas.paint([limb(-44, 2, 12, 34, 0, 22), ellipse(64, -9, 22, 20), limb(34, 0, 20, 60, -8, 16)], plumage)
    canvas.paint([ellipse(10, 20, 60, 14)], lighter(plumage, 60), within=body)
    near = canvas.paint(
        [
            outline((36, 0), (22, up(-56)), (-14, up(-98)), (-76, up(-122)), (-56, up(-84)), (-62, up(-74))),
            outline((36, 0), (22, up(-56)), (-62, up(-74)), (-44, up(-50)), (-48, up(-40)), (-22, 2)),
        ],
        wing,
    )
    canvas.paint([outline((-14, up(-98)), (-76, up(-124)), (-60, up(-66)), (-30, up(-72)))], tip, within=near)
    _eye(canvas, 70, -13, 6)


_FROG_SKINS = (
    (90, 160, 60),
    (60, 130, 60),
    (130, 180, 70),
    (150, 150, 60),
    (110, 90, 60),
    (40, 150, 110),
    (210, 90, 50),
    (60, 110, 190),
)


def frog_from_the_front(canvas: Canvas, chance: Chance) -> None:
    skin = chance.pick(_FROG_SKINS, 20)
    belly = lighter(skin, 60)
    eyes = chance.pick(((246, 210, 70), (240, 240, 230), (220, 80, 50)))
    wide = chance.between(-6, 8)
    canvas.paint([ellipse(s * (66 + wide), 34, 32, 38, s * 24) for s in (-1, 1)], darker(skin, 25))
    feet = [outline((s * 44, 66), (s * 108, 62), (s * 100, 72), (s * 110, 82), (s * 52, 80), rounds=1) for s in (-1, 1)]
    canvas.paint(feet, darker(skin, 10))
    body = canvas.paint([ellipse(0, 28, 60, 50)], skin)
    canvas.paint([ellipse(0, 46, 40, 36)], belly, within=body)
    arms = [limb(s * 40, 30, 11, s * 34, 72, 8) for s in (-1, 1)]
    toes = [limb(s * 34, 76, 6, s * (34 + d), 82, 5) for s in (-1, 1) for d in (-14, 12)]
    canvas.paint(arms + toes, skin)
    canvas.paint([ellipse(s * 40, -46, 25, 24) for s in (-1, 1)], skin)
    head = canvas.paint([ellipse(0, -10, 70 + wide, 38)], skin)
    canvas.paint([ellipse(0, 18, 50, 16)], belly, within=head)
    spots = [ellipse(x, y, 9, 6) for x, y in ((-20, -34), (16, -30), (0, -18), (-48, -8), (50, -10))]
    canvas.paint(spots, darker(skin, 45), where=chance.percent(45), within=head)
    canvas.paint([ellipse(s * 41, -50, 17, 16) for s in (-1, 1)], eyes)
    canvas.paint([ellipse(s * 41, -49, 11, 7) for s in (-1, 1)], BLACK)
    smile = chance.between(6, 14)
    canvas.paint(
        [
            limb(-54, -8, 3, -26, -6 + smile, 3),
            limb(-26, -6 + smile, 3, 26, -6 + smile, 3),
            limb(26, -6 + smile, 3, 54, -8, 3),
        ],
        darker(skin, 75),
    )
    canvas.paint([ellipse(s * 9, -24, 3, 3) for s in (-1, 1)], darker(skin, 75))


def frog_from_the_side(canvas: Canvas, chance: Chance) -> None:
    skin = chance.pick(_FROG_SKINS, 20)
    eyes = chance.pick(((246, 210, 70), (240, 240, 230), (220, 80, 50)))
    leaf = chance.percent(55)
    canvas.paint([ellipse(0, 76, 122, 18)], chance.pick(((70, 120, 60), (110, 150, 80), (120, 100, 70))), where=leaf)
    canvas.paint([limb(44, 20, 11, 58, 62, 8), limb(58, 66, 6, 78, 68, 6)], darker(skin, 30))
    body = canvas.paint(
        [
            outline(
                (-92, 52),
                (-84, 12),
                (-44, -26),
                (10, -48),
                (60, -56),
                (104, -28),
                (100, -4),
                (66, 20),
                (40, 54),
                rounds=2,
            )
        ],
        skin,
    )
    canvas.paint([outline((110, -14), (50, 0), (10, 40), (20, 70), (110, 40))], lighter(skin, 62), within=body)
    spots = [ellipse(x, y, 9, 7) for x, y in ((-40, -4), (-12, -22), (16, -30), (-16, 4), (12, -8))]
    canvas.paint(spots, darker(skin, 45), where=chance.percent(45), within=body)
    thigh = chance.between(-26, -10)
    canvas.paint([ellipse(-44, 32, 44, 25, thigh)], darker(skin, 14))
    canvas.paint([limb(-74, 50, 10, -20, 66, 8), limb(-20, 68, 7, 14, 70, 6)], darker(skin, 20))
    canvas.paint([limb(30, 26, 11, 36, 64, 8), limb(36, 68, 6, 58, 70, 6)], darker(skin, 5))
    canvas.paint([limb(106, -14, 2, 62, -8, 3)], darker(skin, 75))
    canvas.paint([ellipse(62, -56, 23, 22)], skin)
    canvas.paint([ellipse(65, -58, 16, 15)], eyes)
    canvas.paint([ellipse(67, -57, 10, 6)], BLACK)
