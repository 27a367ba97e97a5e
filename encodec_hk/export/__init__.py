"""A codec for other programs: folders of files that run without this package."""
