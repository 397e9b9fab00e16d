"""Images from OCI image layouts on this machine."""
