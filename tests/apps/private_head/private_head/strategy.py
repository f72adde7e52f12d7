"""A strategy with a loop of its own: it keeps the best model and writes each round's figures."""

import json
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result


class BestAvg(FedAvg):
    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn=None,
    ) -> Result:
        result, arrays, best, rows = Result(), initial_arrays, 0.0, []
        config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        for current_round in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(current_round, arrays, config, grid), timeout=timeout)
            trained, metrics = self.aggregate_train(current_round, replies)
            if trained is not None:
                result.arrays = arrays = trained
            result.train_metrics_clientapp[current_round] = metrics
            replies = grid.send_and_receive(
                self.configure_evaluate(current_round, arrays, evaluate_config, grid), timeout=timeout
            )
            figures = self.aggregate_evaluate(current_round, replies)
            result.evaluate_metrics_clientapp[current_round] = figures
            rows.append({"round": current_round, **dict(figures or {})})
            if figures is not None and figures["eval_acc"] > best:
                best = figures["eval_acc"]
                torch.save(arrays.to_torch_state_dict(), "best_model.pt")
            Path("rounds.json").write_text(json.dumps(rows))
        return result
