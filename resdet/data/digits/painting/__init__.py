"""Pictures of digits: canvas, glyphs, objects, random draws that are the same everywhere."""
