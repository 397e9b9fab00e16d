"""Source policies in BuildKit's form, as a listener of builds."""
