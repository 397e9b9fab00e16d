"""What exporters and importers of images share: assembling, repacking, bundles."""
