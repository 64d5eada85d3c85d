"""Run an exported classifier or segmentor with numpy and onnxruntime alone.

MODEL.onnx comes from tools/export.py --normalize, without --argmax. IMAGE.npy is RGB (H, W, 3),
0 to 255, of the size that the model takes. Prints the five best classes of a classifier; writes the
classes of a segmentor's pixels to --out.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', metavar='MODEL.onnx')
parser.add_argument('image', metavar='IMAGE.npy')
parser.add_argument('--out', metavar='CLASSES.npy', help="for a segmentor's classes")
args = parser.parse_args()

session = onnxruntime.InferenceSession(args.model, providers=onnxruntime.get_available_providers())
image = np.load(args.image).astype(np.float32).transpose(2, 0, 1)[None]
notes = session.get_modelmeta().custom_metadata_map
size, smallest = list(image.shape[2:]), json.loads(notes['smallest_size'])
if size != smallest and not (
    notes['dynamic'] == 'true' and np.all(np.greater_equal(size, smallest))
):
    more = ' and larger ones' if notes['dynamic'] == 'true' else ''
    sys.exit(
        f'{args.image} is {size[0]} x {size[1]}, {args.model} takes images of {smallest[0]} x'
        f' {smallest[1]}{more}: resize the image'
    )
names = [output.name for output in session.get_outputs()]
if names != ['scores'] or notes['normalized_inside'] != 'true':
    sys.exit(
        f'{args.model} puts out {", ".join(names)}: this script runs classifiers and segmentors'
        ' exported with --normalize and without --argmax'
    )
(scores,) = session.run(None, {session.get_inputs()[0].name: image})
if scores.ndim == 2:
    shares = np.exp(scores[0] - scores[0].max())
    shares /= shares.sum()
    for index in shares.argsort()[::-1][:5]:
        print(f'class {index}: {shares[index]:.1%}')
else:
    classes = scores[0].argmax(axis=0)
    print('pixels of each class:', dict(zip(*np.unique(classes, return_counts=True), strict=True)))
    if args.out:
        np.save(args.out, classes)
