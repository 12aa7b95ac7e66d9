import pytest
from messages import envelope, heads_fields, parts

from farm.adapter import Adapter, Need, Route, load_adapter
from farm.config import Config
from farm.drilling.adapter import OpcUaAdapter
from farm.errors import ReadError


def an_adapter(**listener) -> OpcUaAdapter:
    return OpcUaAdapter(Config.model_validate({"mqtt": {"listener": listener}}))


def test_it_is_the_adapter_that_the_default_configuration_names():
    adapter = load_adapter(Config())
    assert isinstance(adapter, OpcUaAdapter)
    assert isinstance(adapter, Adapter)
    assert adapter.needs == {
        "result": Need.REQUIRED,
        "trace": Need.REQUIRED,
        "heads": Need.OPTIONAL,
    }


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("OPCPUBSUB/box/unit/ResultManagement", "result"),
        ("OPCPUBSUB/box/unit/ResultManagement/Trace", "trace"),
        ("OPCPUBSUB/box/unit/ResultManagement/Traces", "trace"),
        ("OPCPUBSUB/box/unit/AssetManagement/Heads", "heads"),
        ("OPCPUBSUB/box/unit/AssetManagement/Head", "heads"),
    ],
)
def test_the_topics_of_every_gateway_are_routed(topic, kind):
    adapter = an_adapter()
    assert adapter.route(topic) == Route(kind, "box/unit")
    assert adapter.route(topic) == Route(kind, "box/unit")  # now from the cache


def test_filters_cover_both_spellings_whichever_is_configured():
    plural = an_adapter(trace="ResultManagement/Traces", heads="AssetManagement/Head")
    assert set(plural.topic_filters()) == set(an_adapter().topic_filters())
    assert set(plural.topic_filters()) == {
        "OPCPUBSUB/+/+/ResultManagement",
        "OPCPUBSUB/+/+/ResultManagement/Trace",
        "OPCPUBSUB/+/+/ResultManagement/Traces",
        "OPCPUBSUB/+/+/AssetManagement/Heads",
        "OPCPUBSUB/+/+/AssetManagement/Head",
    }


def test_another_spelling_never_steals_a_configured_topic():
    adapter = an_adapter(result="Traces", trace="Trace")
    assert adapter.route("OPCPUBSUB/b/t/Traces") == Route("result", "b/t")
    assert len(adapter.topic_filters()) == len(set(adapter.topic_filters()))


def test_toolbox_and_tool_really_filter():
    adapter = an_adapter(root="site/hall", toolboxid="box-1", toolid="unit-2")
    assert "site/hall/box-1/unit-2/ResultManagement" in adapter.topic_filters()
    assert adapter.route("site/hall/box-1/unit-2/ResultManagement") is not None
    for stranger in ("box-2/unit-2", "box-1/unit-1", "box-1/unit-22", "+/unit-2"):
        assert adapter.route(f"site/hall/{stranger}/ResultManagement") is None


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "OPCPUBSUB",
        "OPCPUBSUB/box/unit",
        "OPCPUBSUB/box/unit/",
        "OPCPUBSUB//unit/ResultManagement",
        "OPCPUBSUB/box//ResultManagement",
        "OPCPUBSUB/box/ResultManagement",
        "OPCPUBSUB/box/unit/more/ResultManagement",
        "OPCPUBSUB/box/unit/ResultManagement/",
        "OPCPUBSUB/box/unit/ResultManagement/Trace/0",
        "OPCPUBSUB/box/unit/AssetManagement/Tools",
        "XOPCPUBSUB/box/unit/ResultManagement",
        "OPCPUBSUBX/box/unit/ResultManagement",
        "OPCPUBSUB/+/unit/ResultManagement",
        "OPCPUBSUB/box/#/ResultManagement",
        "OPCPUBSUB/box/u#/ResultManagement",
        "OPCPUBSUB/bo\0x/unit/ResultManagement",
        "OPCPUBSUB/box/un\nit/ResultManagement",
        "OPCPUBSUB/box/un\ud800it/ResultManagement",
        f"OPCPUBSUB/box/{'u' * 201}/ResultManagement",
        f"OPCPUBSUB/{'b' * 201}/unit/ResultManagement",
    ],
)
def test_what_is_not_ours_or_unfit_to_answer_to_is_not_routed(topic):
    assert an_adapter().route(topic) is None


def test_our_own_answers_never_come_back_in():
    config = Config()
    adapter = OpcUaAdapter(config)
    estimation = config.mqtt.estimation
    for path in (estimation.keypoints, estimation.depth_estimation, estimation.errors):
        assert adapter.route(f"OPCPUBSUB/box/unit/{path}") is None


def test_it_reads_ids_holes_and_provenance():
    adapter = an_adapter()
    messages = parts()
    assert {adapter.part_id(kind, payload) for kind, payload in messages.items()} == {"440"}
    assert adapter.part_id("heads", envelope(heads_fields(cycle=None))) is None
    assert len(adapter.read(messages)) == 6
    assert adapter.describe(messages)["HeadId"] == "E0-TEST"
    with pytest.raises(ReadError, match="Result: "):
        adapter.part_id("result", b"{")


def test_every_answerer_is_new():
    adapter = an_adapter()
    assert adapter.answerer() is not adapter.answerer()
