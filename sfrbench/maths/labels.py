"""Numbers of a meaning of their own in label maps."""

#: Where no loss looks: padding of canvases, and slices of natural images.
IGNORE = 255
