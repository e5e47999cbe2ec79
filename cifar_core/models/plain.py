"""Plain stacks of convolutions for images of 32 pixels, as published in tutorials."""

from __future__ import annotations

from torch import nn

from cifar_core.models import Classifier, Dropout, named, output_size, register, scaled

IMAGE_SIZE = 32


@register("single_conv")
def single_conv(classes: int, width: float, pretrained: bool) -> Classifier:
    """One convolution and one linear layer; the smallest network worth looking at.

    Sides 32 -> 30 -> 15, so that the linear layer has 16 * 15 * 15 = 3600 inputs.
    """
    channels = scaled(16, width)
    side = output_size(output_size(IMAGE_SIZE, kernel=3), kernel=2, stride=2)
    return Classifier(
        named(conv1=nn.Conv2d(3, channels, 3), pool1=nn.MaxPool2d(2), relu1=nn.ReLU()),
        named(flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(channels * side * side, classes),
    )


@register("guide_cnn")
def guide_cnn(classes: int, width: float, pretrained: bool) -> Classifier:
    """Two convolutions and two linear layers; a first complete network."""
    first, second, hidden = scaled(32, width), scaled(64, width), scaled(512, width)
    return Classifier(
        named(
            conv1=nn.Conv2d(3, first, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
        ),
        named(
            flatten=nn.Flatten(),
            linear1=nn.Linear(second * (IMAGE_SIZE // 4) ** 2, hidden),
            relu3=nn.ReLU(),
            dropout1=Dropout(),
        ),
        nn.Linear(hidden, classes),
    )


@register("guide_cnn_optimised")
def guide_cnn_optimised(classes: int, width: float, pretrained: bool) -> Classifier:
    """The guide CNN with batch norm after each convolution and two dropouts, the first with half the rate.

    The first dropout opens the embedding rather than closing the body: feature maps are then the same in training
    and in use, which class-activation maps rely on, and the function computed is the published one.
    """
    first, second, hidden = scaled(32, width), scaled(64, width), scaled(512, width)
    return Classifier(
        named(
            conv1=nn.Conv2d(3, first, 3, padding=1),
            norm1=nn.BatchNorm2d(first),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1),
            norm2=nn.BatchNorm2d(second),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
        ),
        named(
            dropout1=Dropout(share=0.5),
            flatten=nn.Flatten(),
            linear1=nn.Linear(second * (IMAGE_SIZE // 4) ** 2, hidden),
            relu3=nn.ReLU(),
            dropout2=Dropout(),
        ),
        nn.Linear(hidden, classes),
    )


@register("three_conv")
def three_conv(classes: int, width: float, pretrained: bool) -> Classifier:
    """Three convolutions without padding and two linear layers, 122,570 parameters; the over-fitting lesson.

    Sides 32 -> 30 -> 15 -> 13 -> 6 -> 4.
    """
    first, second = scaled(32, width), scaled(64, width)
    side = output_size(IMAGE_SIZE, kernel=3)
    for kernel, stride in ((2, 2), (3, 1), (2, 2), (3, 1)):
        side = output_size(side, kernel, stride)
    return Classifier(
        named(
            conv1=nn.Conv2d(3, first, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(second, second, 3),
            relu3=nn.ReLU(),
        ),
        named(
            flatten=nn.Flatten(),
            dropout1=Dropout(),
            linear1=nn.Linear(second * side * side, second),
            relu4=nn.ReLU(),
        ),
        nn.Linear(second, classes),
    )
