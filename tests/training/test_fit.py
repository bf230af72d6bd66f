"""A fit that was cut is the fit that was not; a fit that went wrong says where; Ctrl-C keeps what there is."""

import json
import math

import pytest
import torch
from torch import Generator, nn

from separatrix.files import save_tensors
from separatrix.models.forecaster import ForecastModel
from separatrix.training import Diverged, Forecaster, Interrupted, Part, Recipe, Rollout, read_metrics, train
from separatrix.training.checkpoint import FORMAT, read_checkpoint
from separatrix.training.loop import BAD_BATCH, CHECKPOINT, METRICS
from separatrix.training.networks import build_network
from separatrix.training.optimizer import adamw, average, set_rate
from separatrix.training.recipe import Network

RECIPE = Recipe(steps=12, horizon=5, context=8, teacher_steps=4, first_horizon=2, batch=3, noise=0.1, checkpoint=4, warm_up=3)


def network(mixer="s4d", **settings):
    words = Network(
        mixer=mixer, channels=1, d_model=8, layers=1, d_ff=8, lags=3, settings=settings or ({"d_state": 4} if mixer == "s4d" else {})
    )
    return build_network(words, Generator().manual_seed(0))


def wave(T=60):
    t = torch.arange(T, dtype=torch.float32)
    return (torch.sin(0.7 * t) + 0.3 * torch.sin(1.9 * t))[:, None]


def run(folder, recipe=RECIPE, *, until=None, resume=False, model=None, objective=None):
    model = model or network()
    losses = []
    for step in train(model, [Part(model, objective or Rollout([wave()], recipe))], recipe, seed=7, folder=folder, resume=resume):
        losses.append(step.loss)
        if until is not None and step.step == until:
            break
    return model, losses


@pytest.mark.parametrize("cut", [4, 6, 8, 11])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, cut):
    whole, straight = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    straight.mkdir()
    model, losses = run(whole)
    run(straight, until=cut)
    torch.manual_seed(99)  # the loop draws from its own generator only
    again, rest = run(straight, resume=True)
    kept = cut // 4 * 4
    assert rest == losses[kept:]
    assert read_metrics(straight / METRICS) == read_metrics(whole / METRICS)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values()))
    ours, theirs = (read_checkpoint(folder / CHECKPOINT).tensors for folder in (straight, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_counts_the_seconds_of_all_calls(tmp_path):
    run(tmp_path, until=6)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT)
    save_tensors(tmp_path / CHECKPOINT, checkpoint.tensors, {"format": FORMAT, "progress": '{"step": 4, "seconds": 1000}'})
    run(tmp_path, resume=True)
    assert 0 < checkpoint.seconds < 1000 < read_checkpoint(tmp_path / CHECKPOINT).seconds


def test_the_same_seed_is_the_same_fit_and_nobody_elses_numbers_move(tmp_path):
    before = torch.get_rng_state()
    (_, first), (_, second) = run(None), run(None)
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def test_every_step_is_a_line_of_metrics(tmp_path):
    _, losses = run(tmp_path)
    lines = read_metrics(tmp_path / METRICS)
    assert [line["step"] for line in lines] == list(range(1, 13)) and [line["loss"] for line in lines] == losses
    assert [line["horizon"] for line in lines] == [RECIPE.horizon_at(step) for step in range(12)]
    assert {"free", "teacher", "lr", "gradient", "state"} <= lines[0].keys() and {"weights", "update"} <= lines[3].keys()


def test_a_torn_line_is_dropped(tmp_path):
    run(tmp_path, until=8)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 9, "lo')
    run(tmp_path, resume=True)
    assert [line["step"] for line in read_metrics(tmp_path / METRICS)] == list(range(1, 13))


@pytest.mark.parametrize("damage", [b"[1, 2]\n", b'{"loss": 1}\n', b"\xd1\x00\n"])
def test_metrics_of_another_kind_are_dropped(tmp_path, damage):
    run(tmp_path, until=8)
    (tmp_path / METRICS).write_bytes(damage)
    run(tmp_path, resume=True)
    assert [line["step"] for line in read_metrics(tmp_path / METRICS)] == [9, 10, 11, 12]


def test_a_full_disk_keeps_the_last_checkpoint_and_names_the_file(tmp_path):
    resource = pytest.importorskip("resource")
    run(tmp_path, until=4)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError) as caught:
            run(tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / CHECKPOINT) and read_checkpoint(tmp_path / CHECKPOINT).step == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == [CHECKPOINT, METRICS]


def test_the_bar_counts_work():
    model = network()
    steps = list(train(model, [Part(model, Rollout([wave()], RECIPE))], RECIPE, seed=0))
    done = [step.done for step in steps]
    assert done == sorted(done) and done[-1] == pytest.approx(1) and steps[-1].left == pytest.approx(0, abs=1e-9)
    assert done[3] < 4 / 12  # one-step forecasts are cheaper than free runs


@pytest.mark.parametrize("gaps, least, most", [(False, 1.5, 4.0), (True, 1.2, 1.6)])
def test_work_grows_with_the_horizon_as_the_seconds_of_a_played_step_do(gaps, least, most):
    recipe, rows = Recipe(steps=10, horizon=40, context=96, teacher_steps=4), wave(200)
    rows[50] = torch.nan if gaps else 0.0
    objective = Rollout([rows], recipe)
    assert least < objective.work(9) / objective.work(0) < most  # measured: 1.7 to 3.7, and 1.2 to 1.5


class Poisoned(Rollout):
    """A batch with a NaN where the network hears it; or one whose size overflows."""

    def sample(self, step, generator):
        batch = super().sample(step, generator)
        if step == 6:
            batch["heard"] = batch["heard"] * torch.inf
        return batch


def test_a_loss_that_is_not_a_number_stops_by_name(tmp_path):
    with pytest.raises(
        Diverged, match=r"loss is not finite at step 7, first in the output of members\.0\.embed.*checkpoint\.safetensors"
    ) as caught:
        run(tmp_path, objective=Poisoned([wave()], RECIPE))
    assert caught.value.step == 7 and read_checkpoint(tmp_path / CHECKPOINT).step == 4
    assert (tmp_path / BAD_BATCH).is_file() and len(read_metrics(tmp_path / METRICS)) == 6
    with pytest.raises(Diverged, match="There is no checkpoint yet"):
        run(None, objective=Poisoned([wave()], RECIPE))
    with pytest.raises(Diverged, match=r"step 7, first in the output of members\.0\.embed"):  # its decay is refused before there is a loss
        run(None, objective=Poisoned([wave()], RECIPE), model=network("gated_deltanet", n_heads=2))
    model = network("gated_deltanet", n_heads=2)
    torch.nn.init.constant_(dict(model.named_parameters())["members.0.backbone.layers.0.mixer.A_log"], torch.nan)
    with pytest.raises(
        Diverged, match=r"step 1, first in the inside of members\.0\.backbone\.layers\.0\.mixer"
    ):  # every module says finite numbers
        run(None, model=model)


def test_a_gradient_that_is_not_a_number_names_its_parameters(tmp_path):
    class Steep(Rollout):
        def loss(self, model, batch, step):
            loss, parts = super().loss(model, batch, step)
            return loss + 0 * torch.sqrt(model.members[0].head.bias.abs().sum() * 0), parts  # 0 * d sqrt(0) is not a number

    with pytest.raises(Diverged, match=r"gradient is not finite at step 1, first in the gradient of members\.0\.head\.bias"):
        run(tmp_path, objective=Steep([wave()], RECIPE))


def test_ctrl_c_keeps_the_last_checkpoint(tmp_path):
    class Pressed(Rollout):
        def sample(self, step, generator):
            if step == 6:
                raise KeyboardInterrupt
            return super().sample(step, generator)

    with pytest.raises(Interrupted, match=r"stopped at step 6\. Step 4 is kept in .*checkpoint\.safetensors"):
        run(tmp_path, objective=Pressed([wave()], RECIPE))
    _, rest = run(tmp_path, resume=True)
    assert rest == run(None)[1][4:]
    with pytest.raises(Interrupted, match="Nothing is kept"):
        run(None, objective=Pressed([wave()], RECIPE))


def test_a_foreign_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        run(tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="damaged"):
        run(tmp_path, resume=True)
    run(tmp_path, until=4)
    with pytest.raises(ValueError, match="another model"):
        run(tmp_path, resume=True, model=network("gru"))
    with pytest.raises(ValueError, match="needs the folder"):
        run(None, resume=True)


def test_what_moves_the_state_does_not_decay():
    model = network()
    groups = adamw(model, RECIPE).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    mixer = model.members[0].backbone.layers[0].mixer
    assert decays[id(mixer.log_dt)] == 0 and rates[id(mixer.log_dt)] == RECIPE.recurrence_rate
    assert decays[id(model.members[0].head.bias)] == 0 and decays[id(model.members[0].backbone.norm.weight)] == 0
    assert decays[id(model.members[0].head.weight)] == RECIPE.weight_decay and rates[id(model.members[0].head.weight)] == 1
    assert len(decays) == len(list(model.parameters()))


def test_the_rate_warms_up_and_comes_down():
    optimizer = adamw(network(), RECIPE)
    rates = [set_rate(optimizer, RECIPE, step) for step in range(12)]
    assert rates[0] < rates[1] < rates[2] and rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] > 0


def test_the_average_follows_and_forgets_its_start():
    model = nn.Linear(1, 1, bias=False)
    mean = {"weight": torch.full((1, 1), 5.0)}
    nn.init.constant_(model.weight, 1.0)
    for step in range(200):
        average(mean, model, 0.9, step)
    assert float(mean["weight"]) == pytest.approx(1.0, abs=1e-6)  # 0.9^200 of the start is left, 3e-9, and float32 rounds


def test_a_weight_in_two_places_is_averaged_in_both():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    mean = {name: torch.full_like(x, 5.0) for name, x in model.state_dict().items()}
    average(mean, model, 0.9, 50)
    expected = 0.15 * model[0].weight + 0.85 * 5.0  # (1 + 50) / (10 + 50) = 0.85
    assert all(torch.allclose(mean[name], expected) for name in ("0.weight", "1.weight"))


def test_the_horizon_grows():
    grown = [RECIPE.horizon_at(step) for step in range(12)]
    assert grown[:4] == [1] * 4 and grown[4] == 2 and grown[8:] == [5] * 4 and grown == sorted(grown)


def test_gaps_are_never_targets():
    model = network()
    recipe = RECIPE.model_copy(update={"noise": 0.0})
    rows = wave()
    batch = Rollout([rows], recipe).sample(11, Generator().manual_seed(0))
    holed = {"heard": batch["heard"], "truth": batch["truth"].clone()}
    holed["truth"][:, 9] = torch.nan
    objective = Rollout([rows], recipe)
    with_truth, _ = objective.loss(model, batch, 11)
    without, _ = objective.loss(model, holed, 11)
    assert torch.isfinite(without) and without != with_truth
    holed["truth"][:] = torch.nan
    assert float(objective.loss(model, holed, 11)[0].detach()) == 0


def test_hidden_rows_are_heard_and_never_targets():
    rows, hidden = wave(), range(20, 29)
    objective, plain = Rollout([rows], RECIPE, hidden), Rollout([rows], RECIPE)
    ours, theirs = (o.sample(11, Generator().manual_seed(0)) for o in (objective, plain))
    assert torch.equal(ours["heard"], theirs["heard"]) and ours["truth"].isnan().any()
    for a, b in zip(ours["truth"], theirs["truth"]):
        kept = ~torch.isnan(a)
        assert torch.equal(a[kept], b[kept]) and not torch.isin(a[kept], rows[list(hidden)]).any() and kept.any()


def test_windows_stay_inside_their_stretch():
    rows = torch.cat([torch.zeros(20, 1), torch.ones(20, 1)])
    objective = Rollout([rows[:20], rows[20:]], RECIPE)
    truth = torch.cat([objective.sample(11, Generator().manual_seed(i))["truth"] for i in range(30)])
    assert truth.shape[1] == 13 and bool((truth == truth[:, :1]).all()) and 0 < truth.mean() < 1
    with pytest.raises(ValueError, match=r"8 \+ 5 = 13"):
        Rollout([rows[:12]], RECIPE)


def test_it_learns_a_wave():
    forecaster = Forecaster("s4d", steps=150, horizon=8, lags=4, d_model=16).fit(wave(200)[:, 0])
    truth = wave(220)[200:, 0].numpy()
    assert ((forecaster.predict(20) - truth) ** 2).mean() < 0.2 * truth.var()


def test_metrics_are_json(tmp_path):
    run(tmp_path, until=3)
    for line in (tmp_path / METRICS).read_text().splitlines():
        json.loads(line)


def test_a_model_may_be_any_forecast_model():
    assert isinstance(network("mlp"), ForecastModel) and network("mlp").members[0].backbone.d_model == 8


@pytest.mark.parametrize(
    "stretches, hidden, complaint",
    [
        ([], range(0), "stretches is empty"),
        ([[1.0]], range(0), "a stretch is a list, expected a tensor"),
        ([torch.zeros(40)], range(0), r"a stretch is \(40,\) but all must be \[time, channels\]"),
        (torch.zeros(40, 1), range(0), r"a stretch is \(1,\)"),
        ([torch.zeros(40, 1), torch.zeros(40, 2)], range(0), r"a stretch is \(40, 2\) but all must be .* the same channels"),
        ([torch.zeros(40, 1).int()], range(0), "a stretch is torch.int32"),
        ([torch.full((40, 1), torch.inf)], range(0), "stretches hold infinite values"),
        ([torch.zeros(40, 1)], range(35, 45), r"hidden is range\(35, 45\) but there are 40 rows"),
    ],
)
def test_rows_that_nobody_can_be_fitted_to_are_refused(stretches, hidden, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        Rollout(stretches, RECIPE, hidden)


@pytest.mark.parametrize("name", ["lr", "recurrence_rate", "weight_decay", "noise", "lost", "teacher_weight"])
def test_a_recipe_is_of_finite_numbers(name):
    for value in (math.inf, math.nan, -1.0):
        with pytest.raises(ValueError, match=name):
            Recipe(steps=2, horizon=2, context=2, **{name: value})
