"""Sets of JSON values: read from JSON schemas, combined exactly, written for the engine that masks tokens."""
