"""What docs/your-own.md shows must run as it stands there, and give what it says."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes import make_flow

from farm import wire
from farm.adapter import load_adapter
from farm.broker.dispatcher import pack
from farm.config import Config
from farm.drilling.hole import Hole
from farm.models.model import Insufficient
from farm.models.registry import load_model
from farm.viewer import viewer_of
from farm.worker.compute import Computer

PAGE = Path(__file__).parents[2] / "docs" / "your-own.md"
BLOCK = re.compile(r"```(\w+)\n# ([\w.]+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page's modules, importable, and its configurations in order."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for language, name, code in blocks:
        if language == "python":
            (tmp_path / name).write_text(code, encoding="utf-8")
            monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    return [
        Config.model_validate(yaml.safe_load(code))
        for language, _, code in blocks
        if language == "yaml"
    ]


def test_the_model_of_the_page_answers_and_says_when_it_can_not(page):
    config = page[0]
    model = load_model(config.model, 4, config.model_settings)
    model.warm_up()
    ramp = np.linspace(0, 20, 50, dtype=np.float32)
    touching = Hole(
        ramp, np.where(ramp > 5, 3, 0).astype(np.float32), ramp * 0, ramp.astype(np.int16), ()
    )
    in_air = Hole(ramp, ramp * 0, ramp * 0, ramp.astype(np.int16), ())
    found, nothing = model.infer([touching, in_air])
    assert found["keypoints_mm"][0] == pytest.approx(5.3, abs=0.3)
    assert nothing == Insufficient("The drill met no material")


def test_the_traffic_of_the_page_goes_from_topic_to_verdict(page):
    config = page[1]
    adapter = load_adapter(config)
    computer = Computer(load_model(config.model, 4, config.model_settings), adapter)
    flow = make_flow(config, adapter)
    worker = flow.roster.hello(name="1", host="h", pid=1, local=True, now_s=0.0)
    flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "v", "h", 0.1, {}))

    def arrive(topic, body):
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        flow.arrived(topic, payload, arrived_s=1.0, intake_s=1.0, now_s=1.0)

    arrive("plant/p7/force", {"cycle": 3, "force_n": [100, 950]})
    arrive("plant/p7/part", {"cycle": 3, "type": "A"})
    arrive("plant/p7/part", b"{broken")
    [entry] = flow.dispatcher.next_jobs(1.0)
    jobs = pack([entry])
    flow.dispatcher.sent([entry], 1.0)
    flow.dispatcher.claimed(wire.Claim(worker.worker_id, [entry.job_id]), 1.0)
    for frame in computer.run(jobs.jobs, worker.worker_id):
        result = wire.decode([frame])
        assert isinstance(result, wire.Result)
        flow.dispatcher.finished(result, 1.1)

    sent = {}
    while (publication := flow.publication(1.1)) is not None:
        sent[publication.topic] = json.loads(publication.payload)
        flow.outbox.sent(len(sent))
    assert sent["plant/p7/verdict"] == {"cycle": "3", "verdict": "bad", "reason": ""}
    assert "can't be read" in sent["plant/p7/errors"]["error"]


def test_the_viewer_of_the_page_draws_and_measures(page):
    viewer = viewer_of(load_adapter(page[1]))
    parts = {"force": b'{"cycle": 3, "force_n": [100, 950]}', "part": b'{"cycle": 3, "type": "A"}'}
    picture = viewer.picture(parts, "bad")
    assert [list(view.at) for view in picture.views] == [[0, 1]]
    assert [(series.name, series.values) for series in picture.series] == [("force", [100, 950])]
    assert viewer.measure(parts, "bad") == {"peak_n": 950.0}
    assert [column.name for column in viewer.levels] == ["peak force"]
    assert viewer.figures("bad") == {}
