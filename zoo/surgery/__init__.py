"""The toolbox for rewriting trained networks, open to every technique and stable within a contract version.

Its page is ``docs/toolbox.md``. Fitting layers is in :mod:`zoo.surgery.reconstruction`, removing channels in
:mod:`zoo.surgery.dependency`. Importing it imports torch, so do that inside a technique's functions.
"""

from zoo.surgery.agreement import (
    Reference,
    accept_disagreement,
    check_repeatable,
    report_disagreement,
    signal_to_error,
)
from zoo.surgery.candidates import (
    Which,
    find_candidates,
    group_by_block,
    select_candidates,
    unusable_weight_reason,
)
from zoo.surgery.fx_graph import (
    CONCAT_OPERATORS,
    SUM_OPERATORS,
    DataFlow,
    area_of,
    calls_of,
    clean_up_graph,
    concatenated_inputs,
    insert_after,
    layer_of,
    shape_of,
    summed_inputs,
    unused_name,
)
from zoo.surgery.hooks import (
    Watcher,
    as_images,
    detect_external_reads,
    evaluating,
    on_device_of,
    record_inputs,
    watch,
)
from zoo.surgery.module_tree import ModuleSlot, module_slots, names_of, replace_module, replace_named
from zoo.surgery.parameter_uses import ParameterSlot, reads_past_layers, tied_parameters
from zoo.surgery.plain_layers import PlainLayer, has_own_call, is_plain, make_layers_plain
from zoo.surgery.plain_weights import make_weights_plain
from zoo.surgery.residual_sums import ResidualSum, residual_sums
from zoo.surgery.resize import (
    WEIGHTED_LAYERS,
    identity_conv,
    input_channels,
    keep_along,
    keep_depthwise,
    keep_features,
    keep_inputs,
    keep_outputs,
    output_channels,
    reset_inputs,
)
from zoo.surgery.tracing import propagate_shapes, trace

__all__ = [
    "CONCAT_OPERATORS",
    "SUM_OPERATORS",
    "WEIGHTED_LAYERS",
    "DataFlow",
    "ModuleSlot",
    "ParameterSlot",
    "PlainLayer",
    "Reference",
    "ResidualSum",
    "Watcher",
    "Which",
    "accept_disagreement",
    "area_of",
    "as_images",
    "calls_of",
    "check_repeatable",
    "clean_up_graph",
    "concatenated_inputs",
    "detect_external_reads",
    "evaluating",
    "find_candidates",
    "group_by_block",
    "has_own_call",
    "identity_conv",
    "input_channels",
    "insert_after",
    "is_plain",
    "keep_along",
    "keep_depthwise",
    "keep_features",
    "keep_inputs",
    "keep_outputs",
    "layer_of",
    "make_layers_plain",
    "make_weights_plain",
    "module_slots",
    "names_of",
    "on_device_of",
    "output_channels",
    "propagate_shapes",
    "reads_past_layers",
    "record_inputs",
    "replace_module",
    "replace_named",
    "report_disagreement",
    "reset_inputs",
    "residual_sums",
    "select_candidates",
    "shape_of",
    "signal_to_error",
    "summed_inputs",
    "tied_parameters",
    "trace",
    "unusable_weight_reason",
    "unused_name",
    "watch",
]
