"""What a client imports must be light: it runs on phones and in every one of Ray's workers."""

import subprocess
import sys

import pytest

HEAVY = ["avalanche", "datasets", "flwr_datasets", "matplotlib", "ray", "sklearn", "torchmetrics", "torchvision"]


@pytest.mark.parametrize("modules", ["fed_unlearn, fed_unlearn.client, fed_unlearn.client.actions"])
def test_the_client_side_costs_torch_and_flower(modules: str) -> None:
    code = f"import sys, {modules}; print(sorted(set({HEAVY}) & set(sys.modules)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[] True"
