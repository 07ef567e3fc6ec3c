"""Bugs in layers and losses, above all in their backward passes."""

from functools import partial

from dptrain.gradcheck.zoo.bug import Bug, Source

_layer = partial(Bug, place="all")
_image = partial(Bug, place="all", habitat="images")
_norm = partial(Bug, place="all", habitat="batchnorm")
_drop = partial(Bug, place="all", habitat="dropout")
_loss = partial(Source, "nn/cross_entropy.py:BoundSoftmaxCrossEntropy.backward")
_softmax = partial(Source, "nn/cross_entropy.py:BoundSoftmaxCrossEntropy.block_calls")
_dense = partial(Source, "nn/dense.py:DenseOperation.backward_calls")
_relu = partial(Source, "nn/activations.py:ReLUOperation.slope_calls")
_context = partial(Source, "nn/passes.py:Pass.__init__")
_SYNC = "nn/batchnorm.py:Synchronised."
_masks = partial(Source, "nn/dropout.py:DropoutOperation.backward_calls")
_SHARE, _NOTES = "share = 1 / rows", "the study notes"
_BIAS = "call(np.add.reduce, dy, 1, None, db)"
_SUBTRACT, _LOG = "call(np.subtract, y, total, shifted)", "call(np.log, total"

BUGS = (
    _layer("loss-sign", "The gradient is that of minus the loss.",
           _loss(_SHARE, f"rows = -rows\n{_SHARE}"), kind="sign"),
    _layer("softmax-without-mean", "The gradient of the softmax is not divided by the rows.",
           _loss(_SHARE, "share = rows = 1"), kind="missing-mean"),
    _layer("mean-twice", "The gradient of the loss is divided by the rows a second time.",
           _loss(_SHARE, f"rows *= rows\n{_SHARE}"), _NOTES, "divided-twice"),
    _layer("softmax-over-batch", "Softmax with one maximum and one sum for all rows.", (
        _softmax(_SUBTRACT, f"lambda: np.copyto(total, total.max(1, keepdims=True)),\n{_SUBTRACT}"),
        _softmax(_LOG, f"lambda: np.copyto(total, total.sum(1, keepdims=True)),\n{_LOG}")),
           "readers of the book that the study notes are on", "softmax-axis"),
    _layer("bias-missing", "Biases have no gradient.", _dense(_BIAS, "call(db.fill, 0)")),
    _layer("bias-over-units", "The gradient of a bias is summed over the units too, and broadcast.",
           _dense(_BIAS, "lambda dy=dy, db=db: np.copyto(db, dy.sum((1, 2))[:, None])"),
           kind="bias-axis"),
    _layer("sigmoid-slope-missing", "The gradient passes through the sigmoid as it is.",
           Source("nn/activations.py:SigmoidOperation.slope_calls",
                  "call(np.multiply, dy, scratch, dy),", ""), kind="activation-derivative"),
    _layer("tanh-slope-of-output", "The slope of tanh is taken at its value, not its argument.",
           Source("nn/activations.py:TanhOperation.slope_calls", "call(np.multiply, y, y, scratch)",
                  "call(np.tanh, y, scratch), call(np.multiply, scratch, scratch, scratch)"),
           kind="activation-derivative"),
    _layer("relu-at-zero", "ReLU's mask is >= where it should be >: wrong at the kink only.",
           (Source("nn/activations.py:ReLUOperation.calls", "return [",
                   "mask = next(m for m, out in zip(self.scratch, self.outputs) if out is y)\n"
                   "return [call(np.greater_equal, x, 0.0, mask), "),
            _relu("call(np.greater, y, zero, scratch), ", "")),
           kind="relu-mask", habitat="relu-at-zero"),
    _layer("relu-mask-of-output", "ReLU's mask is output >= 0, which is true everywhere.",
           _relu("np.greater", "np.greater_equal"), kind="relu-mask", habitat="relu"),
    _layer("inputs-again", "The second layer is fed with the inputs, not the hidden activations.",
           Source("nn/dense.py:DenseOperation.__init__", "self.inputs = site.inputs",
                  "if site.place == (0,):\n    site.workspace.inputs = site.inputs\n"
                  "self.inputs = site.workspace.inputs"), _NOTES, "forward", "same-width"),
    _layer("single-row-reshaped", "A single row's label is reshaped, its prediction is not: so its "
           "classes count as rows.", _loss("return", "for gradient in self.gradients:\n"
           "    gradient /= gradient.shape[2] if gradient.shape[1] == 1 else 1\nreturn"),
           _NOTES, "wrong-divisor"),
    _layer("difference-parentheses", "A central difference without parentheses: "
           "f(x + h) - f(x - h) / 2 * h.",
           Source("nn/numerical.py:NumericalPass._difference",
                  "(high - low) / (distance * self.rows)", "(high - low / 2 * STEP) / self.rows"),
           _NOTES, "difference-quotient", "numerical"),
    _image("convolution-without-flip", "The gradient of a convolution's input is made with the "
           "mirrored filter.", Source("nn/convolution.py:ConvolvedBlock.input_calls",
                                      "over.reads().T", "over.reads()[::-1].T"), kind="conv-flip"),
    _image("padding-offset", "The way back through a convolution leaves one row of padding too few "
           "out.", tuple(Source("nn/windows.py:Windows.reads", f"{place} - self.padding[{axis}]",
                                f"{place} - max(self.padding[{axis}] - 1, 0)")
                         for axis, place in enumerate("yx"))),
    _image("pooling-ties-twice", "All of several equal maxima of a window get its whole gradient.",
           Source("nn/pooling.py:MaxPooledBlock.backward_calls", "return found",
                  "def everywhere():\n    seen = self.x.take(self.over.reads(), 1)\n"
                  "    tied = (seen == seen.max(1, keepdims=True)) * dy[:, None]\n"
                  "    self._values[:, :-1] = tied.reshape(len(dy), -1, dy.shape[2])\n"
                  "return [*found, everywhere]"), kind="pooling-ties"),
    _image("average-without-mean", "The gradient of an average is not divided by the size of the "
           "window.", Source("nn/pooling.py:AveragedBlock.backward_calls",
                             "call(np.divide, dy, self._divisor(), values[:, :-1])",
                             "call(np.copyto, values[:, :-1], dy)"), kind="missing-mean"),
    _norm("batchnorm-local", "Every rank normalises by the mean and variance of its own rows.", (
        _context("self.blocks,\n",
                 "tuple(b._replace(first=b.first - self.first) for b in self.blocks),\n"),
        _context("shard_sizes(self.rows, arrangement.shards)",
                 "tuple(b.rows for b in self.blocks for _ in range(b.shards)) or (1,)"),
        _context("meeting if meeting is not None and training else Alone()", "Alone()"))),
    _norm("batchnorm-mean-of-means", "The mean over the minibatch is that of the shards' means.", (
        Source(f"{_SYNC}_combine", "self.counts / self.total", "1 / len(self.counts)"),
        Source(f"{_SYNC}_combine", "self.counts, spreads", "self.total / len(means), spreads")),
          "Paddle #32464"),
    _norm("batchnorm-backward-local", "The sums of the backward pass are those of the rank's own "
          "rows.", Source(f"{_SYNC}_meeting", "k =",  # what the others would write stays 0
                          "self.backward_table = np.zeros_like(self.backward_table)\nk =")),
    _norm("batchnorm-backward-counts", "The means of the backward pass ignore how many rows shards "
          "have.", Source(f"{_SYNC}_meeting", "self.dgamma[i]),", "self.dgamma[i]),\n"
                         "call(np.divide, own, self.counts[self._own(i)], own),\n"
                         "call(np.multiply, own, self.total / len(self.counts), own),"),
          "pytorch #36382", "batchnorm-mean-of-means"),
    _norm("running-variance-biased", "The running average takes the biased variance.",
          Source(f"{_SYNC}_averages", "self.total - 1", "self.total"),
          "pytorch #22192", "running-variance"),
    _drop("dropout-equal-masks", "All ranks draw the same masks.",
          Source("nn/dropout.py:_draw", "place, shard)", "place, shard - context.blocks[0].first)"),
          "accelerate #114"),
    _drop("dropout-other-mask", "The backward pass draws a mask of its own.",
          _masks("return [each for block in blocks for each in self._masked(*block)], gradients",
                 "from dataclasses import replace\nplace = (*self.site.place, 1)\n"
                 "site = replace(self.site, inputs=gradients, overwrites=True, place=place)\n"
                 "return DropoutOperation(site, 1 - 1 / self.scale).forward_calls, gradients")),
    _drop("dropout-scale", "What dropout leaves is not divided by 1 - p.",
          Source("nn/dropout.py:DropoutOperation._masked", ", call(np.multiply, y, scale, y)", "")),
    _drop("dropout-scale-forward-only", "What dropout leaves is divided by 1 - p only on the way "
          "forward.", _masks("self._masked(*block)", "self._masked(*block)[:1]"),
          kind="dropout-scale"),
)  # fmt: skip
