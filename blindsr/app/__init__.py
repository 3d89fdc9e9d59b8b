"""The local page: photographs in a browser, upscaled by this machine (`blindsr app`, extra `app`)."""
