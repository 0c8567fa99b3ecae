"""What apps of 2010 import; only `typhoonae.websocket` is here."""
