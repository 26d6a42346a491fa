"""One module per message family: plain functions, a request in, an Outcome out."""
