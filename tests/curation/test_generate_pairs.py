"""Pairs made on purpose, over real HTTP: one model answers, another ranks, clear ones are kept."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest
from sqlmodel import select
from stored_rows import store_example

from curation.preferences.generate import generate_pairs
from curation.recipe import CurationRecipe
from curation.tables import PreferencePair
from foundation.errors import BadInput
from foundation.llm import ProviderError
from foundation.runs import RunCancelled
from foundation.settings import get_settings

RECIPE = CurationRecipe(judge_model="house-judge")


class House(BaseHTTPRequestHandler):
    """Answers `grade 2`, `grade 9`, … in turn as a coder, and as a judge grades as it is told."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = self.judged(asked) if asked["model"] == "house-judge" else self.answered()
        body = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answered(self):
        number = next(self.server.answers)
        return f"grade {9 if number % 2 else 2} of answer {number}"

    def judged(self, asked):
        rules, shown = (m["content"] for m in asked["messages"])
        mark = re.search(r'"mark": "(\w+)"', rules)[1]
        grade = int(re.search(r"grade (\d+)", shown)[1])
        value = grade if "merit" in rules else 10 - grade
        return json.dumps({"mark": mark, "grade": value, "reason": "as told"})

    def log_message(self, *args):
        pass


@pytest.fixture
def house(monkeypatch, settings):
    server = ThreadingHTTPServer(("127.0.0.1", 0), House)
    server.answers = count()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    models = ["house-judge", "house-coder"]
    upstream = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "models": models}
    monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"house": upstream}))
    get_settings.cache_clear()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prompts(session):
    for number in range(2):
        store_example(session, f"Sort list number {number}", f"sorted {number}", outcome=True)
    session.commit()


def make(**changed):
    given = {"n_prompts": 10, "n_answers": 2, **changed}
    recipe = given.pop("recipe", RECIPE)
    return generate_pairs("coder", recipe, "house-coder", **given)


def test_answers_that_the_judge_ranks_apart_become_pairs(session, house, prompts):
    told = []
    done = make(progress=lambda *seen: told.append(seen))
    pairs = list(session.exec(select(PreferencePair)))
    assert done["prompts"] == 2
    assert {pair.basis for pair in pairs} == {"generated"}
    assert [("grade 9" in pair.chosen, "grade 2" in pair.rejected) for pair in pairs] == [
        (True, True)
    ] * 2
    assert told == [(1, 2, "prompts"), (2, 2, "prompts")]


def test_a_prompt_is_answered_once_in_its_life_and_a_stopped_round_keeps_what_it_has(
    session, house, prompts
):
    looks = count(1)

    def stop_at_the_second():
        if next(looks) == 2:
            raise RunCancelled("stopped")

    with pytest.raises(RunCancelled):
        make(check=stop_at_the_second)
    assert len(list(session.exec(select(PreferencePair)))) == 1
    assert make()["prompts"] == 1
    assert make()["prompts"] == 0


def test_no_judge_and_one_answer_are_refused(session):
    with pytest.raises(BadInput, match="judge"):
        make(recipe=CurationRecipe())
    with pytest.raises(BadInput, match="two or more"):
        make(n_answers=1)


def test_a_provider_that_is_away_says_so_and_nothing_is_stored(session, house, prompts):
    house.shutdown()
    house.server_close()
    with pytest.raises(ProviderError):
        make()
    assert list(session.exec(select(PreferencePair))) == []
