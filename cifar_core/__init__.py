"""Data, models, training, evaluation and explanation of small image classifiers; no Streamlit, no plotting.

Shapes are written with one alphabet throughout the package:

    B  images in a batch            N  images in a split
    K  classes                      D  features of an embedding
    C  channels of a feature map    h, w  its height and width
    H, W  height and width of an input image (32 for CIFAR-10)

Importing this package imports neither torch nor anything else that is slow.
"""
