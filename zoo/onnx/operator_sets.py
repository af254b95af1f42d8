"""The operators of standard ONNX, by the operator set that introduced them, less those that zoo refuses."""

from __future__ import annotations

#: Operator sets (of the domain "" or "ai.onnx") that zoo reads. Per-channel quantization came with 13; that the
#: oldest is lower costs nothing. Newer ones than an engine knows, the engine refuses.
OLDEST_OPSET, NEWEST_OPSET = 11, 28

_INTRODUCED = {
    1: """
        Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose
        DepthToSpace Div Dropout Elu Equal Exp Flatten Floor GRU Gather Gemm GlobalAveragePool GlobalLpPool
        GlobalMaxPool Greater HardSigmoid Hardmax Identity If InstanceNormalization LRN LSTM LeakyRelu Less Log
        LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool Mean Min Mul Neg Not Or PRelu Pad Pow RNN
        Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu Reshape Selu Shape Sigmoid Size Slice Softmax Softplus Softsign
        SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Xor
        """,
    7: "Acos Asin Atan Cos Sin Tan",
    8: "Expand",
    9: """
        Acosh Asinh Atanh Compress ConstantOfShape Cosh Erf EyeLike IsNaN MaxUnpool MeanVarianceNormalization
        NonZero OneHot Shrink Sign Sinh Where
        """,
    10: """
        ConvInteger DequantizeLinear IsInf MatMulInteger Mod NonMaxSuppression QLinearConv QLinearMatMul
        QuantizeLinear Resize ReverseSequence RoiAlign ThresholdedRelu
        """,
    11: """
        BitShift ConcatFromSequence CumSum Det DynamicQuantizeLinear GatherElements GatherND Range Round
        ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
        SequenceLength SplitToSequence Unique
        """,
    12: "Celu Einsum GreaterOrEqual LessOrEqual NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    14: "HardSwish Trilu",
    15: "CastLike",
    16: "GridSample",
    17: "BlackmanWindow DFT HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT",
    18: "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish",
    19: "DeformConv",
    20: "AffineGrid Gelu",
    23: "Attention RMSNormalization RotaryEmbedding",
    24: "Swish TensorScatter",
    26: "BitCast CumProd",
    27: "CausalConvWithState LinearAttention",
    28: "SwiGLU",
}
#: Why the others are refused. `If` is not among them: it computes one of two branches once, and both are checked
#: as the main graph is.
_REFUSED = {
    "it can compute for ever": "Loop Scan SequenceMap",
    "its result differs each time": """
        Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        """,
    "it decodes images or text, which is not part of a network": """
        ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer
        """,
    "it returns something other than tensors": "Optional OptionalGetElement OptionalHasElement",
    "it was replaced long ago": "Scatter Upsample",
}
_SINCE = {name: opset for opset, names in _INTRODUCED.items() for name in names.split()}
_REASONS = {name: reason for reason, names in _REFUSED.items() for name in names.split()}


def operator_problem(operator: str, opset: int) -> str | None:
    """Return why a file of this operator set may not use an operator; None if it may."""
    if operator in _REASONS:
        return _REASONS[operator]
    since = _SINCE.get(operator)
    if since is None:
        return "standard ONNX has no such operator"
    return None if since <= opset else f"it came with operator set {since}, and the file states {opset}"
