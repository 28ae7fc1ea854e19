"""The operators that an uploaded graph may call."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from maas_magics.core.compat.operators import is_operator
from maas_magics.core.graphs.format import refuse

_ATEN = """
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr adjoint affine_grid_generator
    alias all alpha_dropout amax amin aminmax angle any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh
    argmax argmin argsort asin asinh atan atan2 atanh avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bernoulli
    bilinear bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_tensors broadcast_to bucketize cat cdist ceil
    celu channel_shuffle chunk clamp clamp_max clamp_min clip clone col2im concat concatenate conj constant_pad_nd
    contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d copy copysign cos cosh
    cosine_similarity count_nonzero cross cummax cummin cumprod cumsum deg2rad detach diag diag_embed diagonal diff
    digamma dist div divide dot dropout einsum elu embedding embedding_bag empty empty_like eq erf erfc erfinv exp exp2
    expand expand_as expm1 exponential eye feature_alpha_dropout feature_dropout fft_fft fft_fft2 fft_fftn fft_fftshift
    fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn fill
    flatten flip fliplr flipud float_power floor floor_divide fmax fmin fmod frac full full_like gather ge gelu glu
    greater greater_equal grid_sampler group_norm gru gru_cell gt hardshrink hardsigmoid hardswish hardtanh heaviside
    hypot im2col imag index index_add index_copy index_fill index_put index_select inner instance_norm inverse isclose
    isfinite isinf isnan kron kthvalue layer_norm ldexp le leaky_relu lerp less less_equal lgamma lift_fresh
    lift_fresh_copy linalg_cholesky linalg_cross linalg_det linalg_eigh linalg_inv linalg_matmul linalg_matrix_exp
    linalg_matrix_norm linalg_multi_dot linalg_norm linalg_qr linalg_slogdet linalg_solve linalg_solve_triangular
    linalg_svd linalg_vecdot linalg_vector_norm linear linspace log log10 log1p log2 log_sigmoid log_softmax logaddexp
    logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor logit logsumexp lstm lstm_cell lt mH mT
    masked_fill masked_scatter matmul matrix_exp matrix_H max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices maximum mean median meshgrid min minimum mish mm
    moveaxis movedim mul multinomial multiply mv nan_to_num nanmean nansum narrow ne neg negative new_empty new_full
    new_ones new_zeros norm normal not_equal numpy_T one_hot ones ones_like outer pad pairwise_distance permute
    pixel_shuffle pixel_unshuffle polar positive pow prelu prod quantile rad2deg rand rand_like randint randint_like
    randn randn_like randperm ravel real reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu6
    remainder renorm repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as
    resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round rrelu rsqrt rsub
    scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select select_scatter
    selu sgn sigmoid sign signbit silu sin sinc sinh slice slice_scatter softmax softplus softshrink sort special_entr
    special_erfcx special_expit special_i0 special_i0e special_i1 special_i1e special_log_ndtr special_ndtr
    special_ndtri special_xlog1py special_xlogy split split_with_sizes sqrt square squeeze stack std std_mean sub
    subtract sum swapaxes swapdims sym_numel sym_size sym_storage_offset sym_stride t take take_along_dim tan tanh
    tensor_split tensordot threshold tile to topk trace transpose tril tril_indices triu triu_indices true_divide trunc
    type_as unbind unflatten unfold uniform unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean vdot view view_as
    view_as_complex view_as_real where xlogy zero zeros zeros_like __and__ __or__ __xor__ _weight_norm
"""

_NUMBERS = (
    *((operator, f"_operator.{name}") for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pos")),
    *((operator, f"_operator.{name}") for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")),
    *((math, f"math.{name}") for name in ("ceil", "floor", "trunc")),
    *((torch, f"torch.sym_{name}") for name in ("float", "int", "ite", "max", "min", "not")),
)

OPERATORS = frozenset(_ATEN.split())
"""Names in ``torch.ops.aten``, in any overload and also with ``_`` behind them. None of them touches a file."""

NUMBERS: dict[str, Callable[..., Any]] = {name: getattr(home, name.split(".")[1]) for home, name in _NUMBERS}
"""What graphs do with sizes; given nothing but numbers."""


def find_operator(target: str) -> Callable[..., Any]:
    """What a node calls, if it is in the lists."""
    if target in NUMBERS:
        return NUMBERS[target]
    match = re.fullmatch(r"torch\.ops\.aten\.(\w{1,100})\.(\w{1,100})", target, re.ASCII)
    name = match[1] if match else ""
    plain = name[:-1] if name.endswith("_") and not name.startswith("__") else name
    if match is None or plain not in OPERATORS:
        refuse(f"{target[:120]} is not among the operators that are accepted")
    found: Any = getattr(getattr(torch.ops.aten, name, None), match[2], None)
    if not is_operator(found):
        refuse(f"{target} is not an operator of this version of torch")
    return found
