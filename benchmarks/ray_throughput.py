"""What a Ray cluster of three local nodes makes of two cores, beside one process that has both.

    python benchmarks/ray_throughput.py --symbols 2000 --out benchmarks/ray_results/cost.json

The nodes share the machine, so a cluster can at best be about as fast as one process. The machine must be quiet. The
start of the nodes, which takes the same time for any number of symbols, is not counted; that of the workers is.
`processor_seconds` is what one process needs of all cores together: the how-to reckons costs from it, and from what the
three nodes lose.
"""

import argparse
import functools
import json
import os
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
BARS, LOOKBACK = 500, 256


def forecast(data, folder, a, cluster=None):
    "(seconds, seconds of processors of this process) of a forecast into a folder, by parts."
    from kronos_nb.forecasting.files import load_predictor
    from kronos_nb.forecasting.parts import PartSettings, forecast_parts_of

    settings = PartSettings(a.horizon, LOOKBACK, dict(sample_count=a.paths, seed=0))
    predictor, *_ = load_predictor('nano', 'cpu')
    began, used = time.perf_counter(), time.process_time()
    forecast_parts_of(predictor, data, folder, settings, spread=spread_on(cluster) if cluster else None)
    return time.perf_counter() - began, time.process_time() - used


def spread_on(cluster):
    "How parts are spread, by workers that load nano."
    from kronos_nb.cluster import spread_pieces
    from kronos_nb.forecast_files import _open_model, _open_writer

    opened = functools.partial(_open_model, 'nano', 'cpu', None, None, LOOKBACK, False, {})
    return lambda write, parts: spread_pieces(cluster, functools.partial(_open_writer, opened, write), parts)


def processor():
    "Whose it is, as Linux says."
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), 'unknown')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--symbols', type=int, default=2000)
    parser.add_argument('--paths', type=int, default=100)
    parser.add_argument('--horizon', type=int, default=24)
    parser.add_argument('--out', default=None, help='JSON of the figures')
    a = parser.parse_args()
    import ray
    from ray.cluster_utils import Cluster as LocalCluster

    from kronos_nb.cluster import Cluster
    from kronos_nb.data.synthetic import synthetic_klines

    with TemporaryDirectory() as d:
        frames = [synthetic_klines(BARS, 'B', volatility=0.01, seed=i).assign(symbol=f'S{i}') for i in range(a.symbols)]
        pd.concat(frames).to_parquet(f'{d}/all.parquet')
        pd.concat(frames[:64]).to_parquet(f'{d}/few.parquet')
        forecast(f'{d}/few.parquet', f'{d}/warm', a)
        alone = forecast(f'{d}/all.parquet', f'{d}/alone', a)
        node = dict(num_cpus=1, object_store_memory=100 * 2**20)
        nodes = LocalCluster(initialize_head=True, head_node_args=node | dict(include_dashboard=False))
        for _ in range(2):
            nodes.add_node(**node)
        nodes.wait_for_nodes()
        with Cluster(nodes.address).connected():
            shared = forecast(f'{d}/all.parquet', f'{d}/shared', a, Cluster(nodes.address))
        for part in sorted(Path(d, 'alone/forecasts').iterdir()):
            assert part.read_bytes() == Path(d, 'shared/forecasts', part.name).read_bytes()
        nodes.shutdown()
    found = dict(
        model='nano', symbols=a.symbols, bars=BARS, lookback=LOOKBACK, paths=a.paths, horizon=a.horizon,
        cores=os.cpu_count(), processor=processor(), ray=ray.__version__, date=str(date.today()),
        processor_seconds=round(alone[1], 1), seconds=round(alone[0], 1), seconds_of_three_nodes=round(shared[0], 1),
    )
    print(json.dumps(found, indent=1))
    print(f'throughput of three nodes: {alone[0] / shared[0]:.0%} of one process', file=sys.stderr)
    if a.out:
        Path(a.out).write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    main()
