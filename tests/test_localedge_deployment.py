"""Reading a deployment, and the one line that says what is wrong with it."""

import json

import pytest

from edge import manifest
from localedge.deployment import load, parse
from manifests.variables import expand, read_env_file
from ripeloop.errors import SettingsError


def written(tmp_path, text):
    path = tmp_path / "deployment.template.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_a_template_is_read_with_its_variables(tmp_path):
    template = manifest(
        routes={"r": "FROM /messages/modules/${SENDER}/* WHERE $body.a = 1 INTO $upstream"},
        desired={"classifier": {"name": "$NAME", "limit": "@LIMIT@"}},
    )
    template["$schema-template"] = "4.0.0"
    agent = template["modulesContent"]["$edgeAgent"]["properties.desired"]
    agent["modules"]["classifier"]["settings"] = {"image": "${MODULES.classifier.amd64}", "createOptions": {"a": []}}
    agent["modules"]["classifier"]["env"] = {"A": {"value": "$NAME/x"}, "B": {"value": 3}}
    text = json.dumps(template).replace('"@LIMIT@"', "$LIMIT")
    deployment = load(written(tmp_path, text), {"SENDER": "classifier", "NAME": "n", "LIMIT": "7"})
    assert deployment.modules == ("classifier", "sampler")
    assert deployment.routes[0].source == ("messages", "modules", "classifier")
    assert deployment.desired["classifier"] == {"name": "n", "limit": 7}
    assert deployment.environment["classifier"] == {"A": "n/x", "B": "3"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda document: document["classifier"]["properties.desired"].update(a=["$UNSET_ONE"]), "UNSET_ONE"),
        (lambda document: document["classifier"]["properties.desired"].update({"${UNSET_TWO}": 1}), "UNSET_TWO"),
        (
            lambda document: document["$edgeHub"]["properties.desired"]["routes"].update(
                r="FROM /messages/modules/$WHO/* INTO $upstream"
            ),
            "WHO",
        ),
        (
            lambda document: document["$edgeAgent"]["properties.desired"]["modules"]["sampler"].update(
                env={"A": {"value": "x-$UNSET_3"}}
            ),
            "UNSET_3",
        ),
    ],
)
def test_a_variable_that_is_used_and_not_set_is_named(tmp_path, change, name):
    document = manifest(desired={"classifier": {}})
    change(document["modulesContent"])
    with pytest.raises(SettingsError, match=rf"\${name} is not set"):
        load(written(tmp_path, document), {})


def test_a_variable_in_what_only_containers_use_may_stay(tmp_path):
    document = manifest()
    document["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"]["settings"] = {"a": "$REGISTRY"}
    load(written(tmp_path, document), {})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.pop("$edgeHub"), r"\$edgeHub"),
        (lambda content: content["$edgeHub"]["properties.desired"].update(schemaVersion="2.0"), "schemaVersion"),
        (lambda content: content["$edgeHub"]["properties.desired"].update(routes=[]), "routes"),
        (lambda content: content["$edgeHub"]["properties.desired"]["routes"].update(bad="FROM x"), "route bad"),
        (
            lambda content: content["$edgeHub"]["properties.desired"].update(
                schemaVersion="1.0", routes={"r": {"route": "FROM /* INTO $upstream"}}
            ),
            "1.1 or later",
        ),
        (
            lambda content: content["$edgeHub"]["properties.desired"].update(
                storeAndForwardConfiguration={"timeToLiveSecs": "long"}
            ),
            "timeToLiveSecs",
        ),
        (lambda content: content.update(classifier={"properties.desired": 3}), "classifier"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_with_its_place(tmp_path, change, why):
    document = manifest()
    change(document["modulesContent"])
    with pytest.raises(SettingsError, match=why):
        load(written(tmp_path, document), {})


@pytest.mark.parametrize(("text", "why"), [("{", "not JSON"), ("[]", "not an object"), ("{}", "no modulesContent")])
def test_a_file_that_is_no_deployment_is_refused(tmp_path, text, why):
    with pytest.raises(SettingsError, match=why):
        load(written(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.json"):
        load(tmp_path / "nowhere.json", {})


def test_messages_may_wait_for_ever():
    assert parse(manifest(time_to_live=-1)).time_to_live == 0
    assert parse(manifest(time_to_live=5)).time_to_live == 5


def test_variables_are_filled_in_once_and_others_stay():
    values = {"A": "$B", "B": "b"}
    assert expand("$A ${B} $C ${MODULES.x} $upstream", values) == "$B b $C ${MODULES.x} $upstream"


def test_an_env_file_is_read(tmp_path):
    path = tmp_path / ".env"
    path.write_text("# a comment\nA=1\nexport B='two words'\n\nC=\nD=a=b\n#E=5\nF=\"x\"\n")
    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "", "D": "a=b", "F": "x"}
    with pytest.raises(SettingsError, match="env-file"):
        read_env_file(tmp_path / "none")
