"""The variants, by what they break. Each module has a tuple ``VARIANTS``."""
