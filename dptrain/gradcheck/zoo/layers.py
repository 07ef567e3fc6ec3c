"""Bugs in layers and losses, above all in their backward passes."""

from functools import partial

from dptrain.gradcheck.zoo.bug import Bug
from dptrain.gradcheck.zoo.source import Source

_layer = partial(Bug, place="all")
_images, _norm, _drop = (
    partial(Bug, place="all", habitat=habitat) for habitat in ("images", "batchnorm", "dropout")
)
_loss = partial(Source, "nn/cross_entropy.py:BoundSoftmaxCrossEntropy.backward")
_softmax = partial(Source, "nn/cross_entropy.py:BoundSoftmaxCrossEntropy.block_calls")
_bias = partial(
    Source,
    "nn/dense.py:DenseOperation.backward_calls",
    "calls.append(call(np.add.reduce, dy, 1, None, db))",
)
_relu = partial(Source, "nn/activations.py:ReLUOperation.slope_calls")
_context = partial(Source, "nn/passes.py:Pass.__init__")
_sync = "nn/batchnorm.py:Synchronised."
_masks = partial(Source, "nn/dropout.py:DropoutOperation.backward_calls")

_DENSE = (
    _layer("loss-sign", "sign", "The gradient is that of minus the loss.",
           _loss("share = 1 / rows", "rows = -rows\nshare = 1 / rows")),
    _layer("softmax-without-mean", "missing-mean",
           "The gradient of the softmax is not divided by the rows.",
           _loss("share = 1 / rows", "share = rows = 1")),
    _layer("mean-twice", "divided-twice",
           "The gradient of the loss is divided by the rows a second time.",
           _loss("share = 1 / rows", "rows *= rows\nshare = 1 / rows"), "the study notes"),
    _layer("softmax-over-batch", "softmax-axis", "Softmax with one maximum and one sum for all rows.",
           (_softmax("call(np.subtract, y, total, shifted),",
                     "lambda: np.copyto(total, total.max(1, keepdims=True)),\n"
                     "call(np.subtract, y, total, shifted),"),
            _softmax("call(np.log, total[..., 0], row),",
                     "lambda: np.copyto(total, total.sum(1, keepdims=True)),\n"
                     "call(np.log, total[..., 0], row),")),
           "readers of the book that the study notes are on"),
    _layer("bias-missing", "bias-missing", "Biases have no gradient.",
           _bias("calls.append(call(db.fill, 0))")),
    _layer("bias-over-units", "bias-axis",
           "The gradient of a bias is summed over the units too, and broadcast.",
           _bias("calls.append(lambda dy=dy, db=db: np.copyto(db, dy.sum((1, 2))[:, None]))")),
    _layer("sigmoid-slope-missing", "activation-derivative",
           "The gradient passes through the sigmoid as it is.",
           Source("nn/activations.py:SigmoidOperation.slope_calls",
                  "call(np.multiply, dy, scratch, dy),", "")),
    _layer("tanh-slope-of-output", "activation-derivative",
           "The slope of tanh is taken at its value instead of its argument.",
           Source("nn/activations.py:TanhOperation.slope_calls", "call(np.multiply, y, y, scratch),",
                  "call(np.tanh, y, scratch), call(np.multiply, scratch, scratch, scratch),")),
    _layer("relu-at-zero", "relu-mask",
           "ReLU's mask is >= where it should be >: wrong at the kink only.",
           (Source("nn/activations.py:ReLUOperation.calls", "return [",
                   "mask = next(m for m, out in zip(self.scratch, self.outputs) if out is y)\n"
                   "return [call(np.greater_equal, x, 0.0, mask), "),
            _relu("call(np.greater, y, zero, scratch), ", "")), habitat="relu-at-zero"),
    _layer("relu-mask-of-output", "relu-mask",
           "ReLU's mask is output >= 0, which is true everywhere.",
           _relu("np.greater", "np.greater_equal"), habitat="relu"),
    _layer("inputs-again", "forward",
           "The second layer is fed with the inputs instead of the hidden activations.",
           Source("nn/dense.py:DenseOperation.__init__", "self.inputs = site.inputs",
                  "if site.place == (0,):\n    site.workspace.inputs = site.inputs\n"
                  "self.inputs = site.workspace.inputs"), "the study notes", habitat="same-width"),
    _layer("single-row-reshaped", "wrong-divisor",
           "Of a single row the label is reshaped and the prediction is not, so that its classes "
           "count as rows.",
           _loss("return self.gradients",
                 "for gradient in self.gradients:\n"
                 "    gradient /= gradient.shape[2] if gradient.shape[1] == 1 else 1\n"
                 "return self.gradients"), "the study notes"),
    _layer("difference-parentheses", "difference-quotient",
           "A central difference without parentheses: f(x + h) - f(x - h) / 2 * h.",
           Source("nn/numerical.py:NumericalPass._difference",
                  "(high - low) / (distance * self.rows)", "(high - low / 2 * STEP) / self.rows"),
           "the study notes", habitat="numerical"),
)  # fmt: skip

_CONVOLUTIONS = (
    _images("convolution-without-flip", "conv-flip",
            "The gradient of a convolution's input is made with the mirrored filter.",
            Source("nn/convolution.py:ConvolvedBlock.input_calls",
                   "over.reads().T", "over.reads()[::-1].T")),
    _images("padding-offset", "padding-offset",
            "The way back through a convolution leaves one row of padding too few out.",
            tuple(Source("nn/windows.py:Windows.reads", f"{place} - self.padding[{axis}]",
                         f"{place} - max(self.padding[{axis}] - 1, 0)")
                  for axis, place in enumerate("yx"))),
    _images("pooling-ties-twice", "pooling-ties",
            "All of several equal maxima of a window get its whole gradient.",
            Source("nn/pooling.py:MaxPooledBlock.backward_calls", "return found + self",
                   "def everywhere():\n    seen = self.x.take(self.over.reads(), 1)\n"
                   "    tied = (seen == seen.max(1, keepdims=True)) * dy[:, None]\n"
                   "    self._values[:, :-1] = tied.reshape(len(dy), -1, dy.shape[2])\n"
                   "return [*found, everywhere] + self")),
    _images("average-without-mean", "missing-mean",
            "The gradient of an average is not divided by the size of the window.",
            Source("nn/pooling.py:AveragedBlock.backward_calls",
                   "call(np.divide, dy, self._divisor(), values[:, :-1])",
                   "call(np.copyto, values[:, :-1], dy)")),
)  # fmt: skip

_STATISTICS = (
    _norm("batchnorm-local", "batchnorm-local",
          "Every rank normalises by the mean and variance of its own rows.",
          (_context("self.blocks,\n",
                    "tuple(b._replace(first=b.first - self.first) for b in self.blocks),\n"),
           _context("shard_sizes(self.rows, arrangement.shards),",
                    "tuple(b.rows for b in self.blocks for _ in range(b.shards)) or (1,),"),
           _context("meeting if meeting is not None and training else Alone()", "Alone()"))),
    _norm("batchnorm-mean-of-means", "batchnorm-mean-of-means",
          "The mean over the minibatch is that of the shards' means.",
          (Source(f"{_sync}_combine", "self.counts / self.total", "1 / len(self.counts)"),
           Source(f"{_sync}_combine", "self.counts, spreads", "self.total / len(means), spreads")),
          "Paddle #32464"),
    _norm("batchnorm-backward-local", "batchnorm-backward-local",
          "The sums of the backward pass are those of the rank's own rows.",
          Source(f"{_sync}_meeting", "k = len(self.gamma)",  # the others' rows stay 0
                 "k = len(self.gamma)\nself.backward_table = np.zeros_like(self.backward_table)")),
    _norm("batchnorm-backward-counts", "batchnorm-mean-of-means",
          "The means of the backward pass ignore how many rows a shard has.",
          Source(f"{_sync}_meeting", "call(np.copyto, own[:, k:], self.dgamma[i]),",
                 "call(np.copyto, own[:, k:], self.dgamma[i]),\n"
                 "call(np.multiply, own, self.total / len(self.counts) / "
                 "self.counts[self._own(i)], own),"), "pytorch #36382"),
    _norm("running-variance-biased", "running-variance",
          "The running average takes the biased variance.",
          Source(f"{_sync}_averages", "self.total - 1", "self.total"), "pytorch #22192"),
    _drop("dropout-equal-masks", "dropout-equal-masks", "All ranks draw the same masks.",
          Source("nn/dropout.py:_draw", "*place, shard)",
                 "*place, shard - context.blocks[0].first)"), "accelerate #114"),
    _drop("dropout-other-mask", "dropout-other-mask",
          "The backward pass draws a mask of its own.",
          _masks("return [each for block in blocks for each in self._masked(*block)], gradients",
                 "from dataclasses import replace\n"
                 "place = (*self.site.place, 1)\n"
                 "site = replace(self.site, inputs=gradients, overwrites=True, place=place)\n"
                 "return DropoutOperation(site, 1 - 1 / self.scale).forward_calls, gradients")),
    _drop("dropout-scale", "dropout-scale", "What dropout leaves is not divided by 1 - p.",
          Source("nn/dropout.py:DropoutOperation._masked", ", call(np.multiply, y, scale, y)", "")),
    _drop("dropout-scale-forward-only", "dropout-scale",
          "What dropout leaves is divided by 1 - p on the way forward only.",
          _masks("self._masked(*block)", "self._masked(*block)[:1]")),
)  # fmt: skip

BUGS = (*_DENSE, *_CONVOLUTIONS, *_STATISTICS)
