from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

USE = 'pytest_plugins = ["hermes_agent.testing.fixtures"]'
REAL = """
    import pytest
    from types import SimpleNamespace
    from hermes_agent.models.permission import check_requests_allowed

    def ask():
        check_requests_allowed(SimpleNamespace(name="a real one"))  # as each real model does first
"""


def run(pytester: pytest.Pytester, test: str, *arguments: str, conftest: str = USE) -> pytest.RunResult:
    pytester.makeconftest(conftest)
    pytester.makepyfile(test)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", *arguments)


def test_real_models_are_forbidden_and_a_marker_lets_a_test_ask_them(pytester: pytest.Pytester) -> None:
    test = f"""{REAL}
    from hermes_agent.testing import RequestsForbiddenError

    def test_forbidden():
        with pytest.raises(RequestsForbiddenError):
            ask()

    @pytest.mark.model_requests
    def test_allowed():
        ask()
    """
    run(pytester, test).assert_outcomes(passed=2)


def test_a_fixture_of_any_scope_is_held_to_it_too(pytester: pytest.Pytester) -> None:
    test = f"""{REAL}
    @pytest.fixture(scope="session")
    def answer():
        return ask()

    def test_it(answer): ...
    """
    result = run(pytester, test)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*RequestsForbiddenError: the model 'a real one' may not be asked*"])


def test_the_configuration_can_allow_them_all(pytester: pytest.Pytester) -> None:
    test = f"""{REAL}

    def test_allowed():
        ask()
    """
    run(pytester, test, "-o", "hermes_model_requests=allow").assert_outcomes(passed=1)
    wrong = run(pytester, test, "-o", "hermes_model_requests=maybe")
    wrong.stderr.fnmatch_lines(["*hermes_model_requests = 'maybe' is neither*"])


def test_a_script_that_is_not_used_up_fails_a_test_that_passed(pytester: pytest.Pytester) -> None:
    test = """
    from hermes_agent import Agent

    def test_complete(scripted_model):
        assert Agent(scripted_model("Hello.")).run_sync("Hi").output == "Hello."

    def test_left(scripted_model):
        Agent(scripted_model("Hello.", "Again.")).run_sync("Hi")

    def test_failed_itself(scripted_model):
        scripted_model("Hello.")
        assert False
    """
    result = run(pytester, test)
    result.assert_outcomes(passed=2, errors=1, failed=1)
    result.stdout.fnmatch_lines(["*1 turn of the script not asked for, next: 'Again.'*"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_agent_is_overridden_in_a_fixture_for_sync_and_async_tests(pytester: pytest.Pytester, backend: str) -> None:
    test = f"""
    import pytest
    from hermes_agent import Agent

    agent = Agent("hf:nobody/nothing", output=int)
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return {backend!r}

    @pytest.fixture(autouse=True)
    def filled(filling_model):
        with agent.override(model=filling_model):
            yield

    def test_sync():
        assert agent.run_sync("Hi").output == 0

    async def test_async():
        assert (await agent.run("Hi")).output == 0
    """
    run(pytester, test).assert_outcomes(passed=2)


def test_without_the_plugin_nothing_is_forbidden_and_no_fixture_is_there(pytester: pytest.Pytester) -> None:
    test = f"""{REAL}

    def test_allowed(request):
        ask()
        with pytest.raises(pytest.FixtureLookupError):
            request.getfixturevalue("scripted_model")
    """
    run(pytester, test, conftest="").assert_outcomes(passed=1)
