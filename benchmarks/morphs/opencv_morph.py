"""The morph of two faces that tutorials teach, by OpenCV, dlib and Pillow: a plain reference.

Both faces get a square of 256 pixels; 68 landmarks and 8 points of its border are joined to
Delaunay triangles. A frame has its triangles between those of both photos; each photo is warped
into them, triangle by triangle, and the two are blended. It knows nothing of this project:

    python -m benchmarks.morphs.opencv_morph A.jpg B.jpg OUT.gif LANDMARKS.dat

OUT may end in .mp4 too; LANDMARKS is dlib's shape_predictor_68_face_landmarks.dat.
Pictures are (h, w, 3) uint8 RGB; points are (N, 2) float32 (x, y) pixels.
"""

from __future__ import annotations

import sys

import cv2
import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

SIZE, FRAMES, FPS = 256, 21, 15
ROOM = 1.5  # side of the square, in longer sides of the box around the landmarks
EIGHTHS = [(0, 0), (0.5, 0), (1, 0), (0, 0.5), (1, 0.5), (0, 1), (0.5, 1), (1, 1)]
BORDER = (SIZE - 1) * np.array(EIGHTHS, np.float32)


def main(a: str, b: str, out: str, landmarks: str) -> None:
    """Write the morph from photo ``a`` to photo ``b``."""
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(landmarks)
    faces = []
    for file in (a, b):
        photo = swapped(np.asarray(cv2.imread(file), np.uint8))
        faces.append(square(photo, find_landmarks(photo, detector, predictor)))
    write(morph(*faces[0], *faces[1]), out)


def find_landmarks(
    photo: Picture, detector: dlib.fhog_object_detector, predictor: dlib.shape_predictor
) -> Points:
    """The 68 of the largest face."""
    box = max(detector(photo), key=lambda box: box.area())
    return np.array([(p.x, p.y) for p in predictor(photo, box).parts()], np.float32)


def square(photo: Picture, points: Points) -> tuple[Picture, Points]:
    """The face's surroundings at SIZE x SIZE pixels; its points and those of the border there."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = round(ROOM * float((high - low).max()))
    centre = (low + high) / 2
    cut = cv2.getRectSubPix(photo, (side, side), centre.tolist())  # repeats the photo's edge
    scaled = cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    inside = (points - centre + side / 2) * (SIZE / side) - 0.5
    return np.asarray(scaled, np.uint8), np.concatenate([inside, BORDER])


def morph(a: Picture, a_points: Points, b: Picture, b_points: Points) -> list[Picture]:
    """FRAMES pictures from ``a`` to ``b``."""
    triangles = delaunay(0.5 * (a_points + b_points))
    frames = []
    for alpha in np.linspace(0, 1, FRAMES).tolist():
        points = (1 - alpha) * a_points + alpha * b_points
        frame = np.zeros_like(a)
        for three in triangles:
            fill(frame, points[three], a, a_points[three], b, b_points[three], alpha)
        frames.append(frame)
    return frames


def delaunay(points: Points) -> list[list[int]]:
    """Three numbers of points for each triangle."""
    number = {(x, y): i for i, (x, y) in enumerate(points.tolist())}
    plane = cv2.Subdiv2D((0, 0, SIZE, SIZE))
    plane.insert(points.tolist())
    corners = np.reshape(plane.getTriangleList(), (-1, 3, 2)).tolist()
    return [[number[x, y] for x, y in triangle] for triangle in corners]


def fill(
    frame: Picture, to: Points, a: Picture, a_from: Points, b: Picture, b_from: Points, alpha: float
) -> None:
    """Draw the triangle ``to`` of ``frame`` with those of ``a`` and ``b``, blended by ``alpha``."""
    x, y, w, h = cv2.boundingRect(to)
    here = to - np.array([x, y], np.float32)
    blended = cv2.addWeighted(
        warped(a, a_from, here, (w, h)), 1 - alpha, warped(b, b_from, here, (w, h)), alpha, 0
    )
    inside = np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(inside, here.round().astype(np.int32), 1)
    cv2.copyTo(blended, inside, frame[y : y + h, x : x + w])


def warped(photo: Picture, corners: Points, to: Points, size: tuple[int, int]) -> Picture:
    """The part of ``photo`` around three ``corners``, so that they come to lie at ``to``."""
    x, y, w, h = cv2.boundingRect(corners)
    affine = cv2.getAffineTransform(corners - np.array([x, y], np.float32), to)
    part = photo[y : y + h, x : x + w]
    found = cv2.warpAffine(part, affine, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.uint8)


def write(frames: list[Picture], out: str) -> None:
    """A GIF by Pillow or a video by OpenCV."""
    if out.endswith(".gif"):
        first, *others = map(Image.fromarray, frames)
        first.save(out, save_all=True, append_images=others, duration=1000 / FPS, loop=0)
        return
    video = cv2.VideoWriter(out, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (SIZE, SIZE))
    for frame in frames:
        video.write(swapped(frame))
    video.release()


def swapped(picture: Picture) -> Picture:
    """RGB from OpenCV's BGR, or the reverse."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


if __name__ == "__main__":
    main(*sys.argv[1:])
