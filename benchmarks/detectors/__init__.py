"""Who finds faces, how well they are placed, and what it costs: dlib beside MediaPipe."""
