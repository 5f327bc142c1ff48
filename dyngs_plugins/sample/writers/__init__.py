"""One writer per dataset layout: a tiny scene of our own in the layout's exact file formats, with its ground truth."""
