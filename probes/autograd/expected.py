"""The expected value of each fact; the leaf is x = [1, 2, 3] unless stated otherwise."""

from typing import Final

from pydantic import JsonValue

from probes.kit.facts import NODE, REFUSED, SOME

_TWICE_X: Final[list[JsonValue]] = [2.0, 4.0, 6.0]  # the gradient of x * x

EXPECTED: Final[dict[str, dict[str, JsonValue]]] = {
    "grad_enabled": {"grad": True, "inference": False},
    "accumulation": {
        "once": _TWICE_X,
        "twice": [4.0, 8.0, 12.0],
        "other_loss": [7.0, 11.0, 15.0],
        "onto_given": [-5.0, 4.0, 106.0],
        "after_none": _TWICE_X,
        "several_uses": [3.0, 5.0, 7.0],
    },
    "zero_grad": {
        "zeros": [0.0, 0.0, 0.0],
        "after_zeros": [2.0, 2.0, 2.0],
        "none": None,
        "after_none": [2.0, 2.0, 2.0],
    },
    "scalar_backward": {
        "of_a_scalar": _TWICE_X,
        "of_one_element": [0.0, 4.0, 0.0],
        "of_a_scalar_leaf": 6.0,
    },
    "grad_function": {
        "first": [3.0, 12.0, 27.0],
        "second": [6.0, 12.0, 18.0],
        "third": [6.0, 6.0, 6.0],
        "graph": [True, False],
        "grad_untouched": None,
        "of_a_result": [4.0, 8.0, 12.0],
        "unused": [_TWICE_X, None],
        "unused_refused": REFUSED,
        "backward_of_gradient": [36.0, 288.0, 972.0],
    },
    "detach": {
        "requires_grad": False,
        "made_by": "",
        "same_memory": True,
        "values": [2.0, 4.0, 6.0],
        "source_keeps_graph": NODE,
        "gradient": [1.0, 4.0, 9.0],  # of x times a constant x * x
        "in_place": [False, ""],
        "write_shows": [10.0, 20.0, 30.0],
    },
    "grad_fn": {
        "plain": [False, ""],
        "plain_result": [False, ""],
        "user_made": [True, ""],
        "result": [True, NODE],
        "inputs": [NODE, "NoneType"],
        "leads_to_leaf": True,
        "sum": NODE,
        "view": NODE,
        "integers_refused": REFUSED,
    },
    "leaves": {
        "is_leaf": [True, True, False, False],
        "retains_grad": [False, True],
        "leaf": [50.0, 100.0, 150.0],
        "frozen": None,
        "result": None,
        "retained": [1.0, 1.0, 1.0],
        "like_its_leaf": [True, True, False],
        "no_graph_refused": REFUSED,
    },
    "no_grad": {
        "enabled_inside": False,
        "enabled_after": True,
        "result": [False, "", True],
        "values": [2.0, 4.0, 6.0],
        "leaf_inside": [True, True],
        "after": NODE,
        "decorated": "",
        "after_decorated": True,
        "after_error": ["ValueError: on purpose", True],
        "step": [2.0, 3.0, 4.0],
        "gradient_after_step": [4.0, 6.0, 8.0],
    },
    "inference_mode": {
        "inside": [True, False],
        "after": [False, True],
        "result": [True, False, ""],
        "values": [2.0, 4.0, 6.0],
        "normal_tensor": False,
        "saving_refused": REFUSED,
        "writing_refused": REFUSED,
        "clone": [False, [2.0, 4.0, 6.0]],
        "off": NODE,
    },
    "grad_modes": {
        "enable_grad": NODE,
        "after_enable_grad": "",
        "set_on": NODE,
        "set_off": "",
        "set_on_again": NODE,
        "ended": [False, True],
        "gradient": [4.0, 8.0, 12.0],
        "called": [False, "", True, NODE],
    },
    "changing_graph": {
        "turns_1": [4.0, 4.0],  # x^2 at 2, and its derivative
        "turns_2": [10.0, 7.0],  # x^2 + 3 x
        "turns_3": [20.0, 24.0],  # x^3 + 3 x^2
        "turns_4": [26.0, 27.0],  # x^3 + 3 x^2 + 3 x
        "turns_5": [52.0, 80.0],  # x^4 + 3 x^3 + 3 x^2
        "negative": -2.0,
        "positive": 5.0,
    },
    "second_backward": {
        "again": REFUSED,
        "nothing_added": _TWICE_X,
        "retained": [4.0, 8.0, 12.0],
        "third": REFUSED,
    },
    "in_place": {
        "version_moves": SOME,
        "new_node": NODE,
        "gradient": [0.0, 60.0, 600.0],
        "saved_refused": REFUSED,
        "saved_result_refused": REFUSED,
        "leaf_refused": REFUSED,
        "view_of_leaf_refused": REFUSED,
        "nothing_added": None,
        "leaf_unchanged": [1.0, 2.0, 3.0],
    },
    "custom_function": {
        "value": [8.0, 20.0, 36.0],
        "made_by": NODE,
        "gradient": [[80.0, 100.0, 120.0], None],
        "both": [[80.0, 1000.0, 12000.0], [2.0, 40.0, 600.0]],
        "twice": [20.0, 20.0, 20.0],
        "wrong_shape_refused": REFUSED,
        "not_differentiable": [True, False],
        "split_gradient": [0.0, 1.0, 0.0],
        "in_no_grad": "",
    },
    "recomputation": {"recorded": [False, True], "x": True, "w": True},
    "saved_tensors": {
        "packed": True,
        "unpacked": True,
        "gradient": _TWICE_X,
        "quiet_after": 0,
    },
    "tensor_hooks": {
        "called": [
            ["first", [4.0, 8.0, 12.0]],
            ["tenfold", [4.0, 8.0, 12.0]],
            ["last", [40.0, 80.0, 120.0]],
            ["leaf", [80.0, 160.0, 240.0]],
        ],
        "gradient": [80.0, 160.0, 240.0],
    },
    "node_hooks": {
        "called": [["before", [3.0, 3.0, 3.0]], ["after", [6.0, 6.0, 6.0]]],
        "gradient": [6.0, 6.0, 6.0],
    },
    "module_hooks": {
        "called": [
            ["forward_pre", [1.0, 2.0, 3.0]],
            ["forward", [1.0, 4.0, 9.0]],
            ["backward_pre", [5.0, 5.0, 5.0]],
            ["backward", [5.0, 10.0, 15.0], [5.0, 5.0, 5.0]],
        ],
        "replaced": [500.0, 1000.0, 1500.0],
        "parameter": [5.0, 10.0, 15.0],
        "after_removal": 0,
        "gradient_after_removal": [501.0, 1002.0, 1503.0],
    },
    "accumulation_hooks": {
        "called": [[5.0, 7.0, 9.0], [7.0, 11.0, 15.0]],
        "after_removal": 0,
        "step_in_backward": [[-1.0, -2.0, -3.0], None],  # x - 2 x
    },
    "thread_modes": {
        "beside_no_grad": [True, NODE],
        "beside_inference_mode": False,
        "switched_off_there": False,
        "still_on_here": [True, NODE],
        "backward_of_this_graph_there": _TWICE_X,
        "gradient_here": _TWICE_X,
    },
}
