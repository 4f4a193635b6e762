"""Files that arrive in pieces: resumable uploads by the tus protocol, version 1.0.0 (ADR 0036)."""
