"""From the text of a Dockerfile to checked instructions, and what the words in them expand to. Knows no graph."""
