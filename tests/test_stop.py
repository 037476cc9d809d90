"A signal at every boundary of a run: the exit status is the signal's, nothing more is trained, and nothing is lost."

import signal
from unittest import mock

import pytest
from conftest import small_config
from running import Command, contents, fork_server, litter

DROPOUT = dict(ffn_dropout_p=0.1, attn_dropout_p=0.1, resid_dropout_p=0.1)


def config(folder, **training):
    "Two short stages with dropout."
    shape = dict(d_model=32, n_heads=2, ff_dim=48, s1_bits=6, s2_bits=6) | DROPOUT
    return small_config(
        folder,
        training=dict(epochs=2, save_every=3, samples_per_epoch=96) | training,
        forecast=dict(origins=2, pictures=1, sample_count=2),
        data=dict(window_stride=32),
        architecture=dict(
            tokenizer=shape | dict(n_enc_layers=2, n_dec_layers=2),
            predictor=shape | dict(n_layers=2, token_dropout_p=0.1),
        ),
    )


class Swallowed:
    "Gets a signal while it is deleted, where Python has nobody to give an exception to."

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def signalled(where, number):
    "In the child: a signal arrives at a boundary."
    from kronos_nb.training import checkpoint, loop, sequential

    def last(trainer):
        return trainer.stage.name == 'tokenizer' and trainer.progress.epoch > trainer.stage.epochs

    def around(owner, name, before=None, after=None):
        "Wrap a function, and raise the signal before it, or after it, where a condition holds."
        function = getattr(owner, name)

        def call(*args, **kwargs):
            if before and before(*args):
                signal.raise_signal(number)
            result = function(*args, **kwargs)
            if after and after(*args):
                signal.raise_signal(number)
            return result

        mock.patch.object(owner, name, call).start()

    Trainer = loop.Trainer
    if where == 'before the last save':
        around(Trainer, 'end_epoch', after=last)
    elif where == 'during the last save':
        seen = []
        around(Trainer, 'save', before=lambda t: seen.append(t) if last(t) else None)
        around(checkpoint, 'sync_files', after=lambda *_: seen)
    elif where == 'after the last save':
        around(Trainer, 'over', after=last)
    elif where == 'between stages':
        around(sequential, 'load_finetuned_tokenizer', before=lambda *_: True)
    elif where == 'between stages, unseen':
        around(sequential, 'load_finetuned_tokenizer', before=lambda *_: Swallowed(number) and None)
    elif where == 'while it is judged':
        from kronos_nb.evaluation import judge

        around(judge, 'forecast_held_out', after=lambda *_: True)
    else:
        raise AssertionError(where)


@pytest.fixture(scope='module')
def server():
    return fork_server()


@pytest.fixture(scope='module')
def expected(server, tmp_path_factory):
    "What a run that nobody stops comes to."
    folder = tmp_path_factory.mktemp('alone')
    command = Command(server, 'train_sequential', ['--config', config(folder)], folder / 'said.txt')
    assert command.wait(120) == 0, command.said()
    return contents(folder)


STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
BOUNDARIES = [
    'before the last save',
    'during the last save',
    'after the last save',
    'between stages',
    'between stages, unseen',
    'while it is judged',
]


@pytest.mark.parametrize(
    'number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)], ids=lambda n: n.name
)
@pytest.mark.parametrize('where', BOUNDARIES)
def test_a_signal_at_a_boundary(server, expected, tmp_path, where, number):
    path = config(tmp_path)
    argv, log = ['--config', path], tmp_path / 'said.txt'
    command = Command(server, 'train_sequential', argv, log, 'test_stop:signalled', where, number)
    assert command.wait(120) == STATUS[number], command.said()
    said = command.said()
    assert f'stopped by {number.name}' in said and ('Traceback' not in said or 'unseen' in where), said
    second = (tmp_path / 'experiments/small/basemodel/best_model').exists()
    assert second == (where == 'while it is judged'), said
    assert not (tmp_path / 'experiments/small/summary.txt').exists()
    command = Command(server, 'train_sequential', argv, log)
    assert command.wait(120) == 0, command.said()
    assert contents(tmp_path) == expected and not litter(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize('number', STATUS, ids=lambda n: n.name)
def test_a_signal_in_an_evaluation(server, trained, tmp_path, number):
    "One that nobody saw ends it between two parts; the parts are kept, and the rest is made."
    folder, _ = trained
    evaluation = ['--config', folder / 'small.yaml', '--origins', 4, '--paths', 4, '--out', tmp_path / 'out']
    command = Command(server, 'evaluate', evaluation, tmp_path / 'said.txt', 'test_stop:signalled_parts', number)
    assert command.wait(120) == STATUS[number], command.said()
    assert len(list((tmp_path / 'out/parts').glob('*.parquet'))) == 2
    assert not (tmp_path / 'out/summary.txt').exists()
    command = Command(server, 'evaluate', evaluation, tmp_path / 'said.txt')
    assert command.wait(120) == 0, command.said()
    assert (tmp_path / 'out/summary.txt').exists() and not litter(tmp_path)


def signalled_parts(number):
    "In the child: a signal that nobody sees, while the second part is written."
    from kronos_nb.evaluation import rolling

    write, written = rolling.write_table, []

    def call(*args):
        write(*args)
        written.append(args)
        if len(written) == 2:
            Swallowed(number)

    mock.patch.object(rolling, 'write_table', call).start()
