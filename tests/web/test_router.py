"""The router of paths: what a path is found by, and what it costs to look among many."""

import re

from cliffracer.web.router import Router

GET = "GET"


def router_of(*paths: str) -> Router:
    """Return a router that has these paths, each its own endpoint."""
    router = Router()
    for path in paths:
        router.add(GET, path, path)
    router.compile()
    return router


def test_paths_that_begin_alike_are_told_apart_by_what_follows() -> None:
    """Each keeps the names that its own parameters have, also where the beginning is read once for all of them."""
    router = router_of("/repos/{owner}/{repo}", "/repos/{owner}/{name}/issues/{number:int}", "/repos/{org}/{repo}/pulls", "/{owner}")
    assert router.find(GET, "/repos/ada/engine") == ("/repos/{owner}/{repo}", {"owner": "ada", "repo": "engine"})
    found = {"owner": "ada", "name": "engine", "number": "7"}
    assert router.find(GET, "/repos/ada/engine/issues/7") == ("/repos/{owner}/{name}/issues/{number:int}", found)
    assert router.find(GET, "/repos/ada/engine/pulls") == ("/repos/{org}/{repo}/pulls", {"org": "ada", "repo": "engine"})
    assert router.find(GET, "/repos") == ("/{owner}", {"owner": "repos"})
    assert router.find(GET, "/repos/ada/engine/issues/x") == (None, None)


def test_a_parameter_of_many_segments_takes_all_that_the_more_specific_path_leaves() -> None:
    """Of two paths that begin with the same parameter of kind path, the more specific one is tried with every length of it first."""
    router = router_of("/{rest:path}/{id:int}/{name}", "/{rest:path}/{name}")
    assert router.find(GET, "/a/b/7/c") == ("/{rest:path}/{id:int}/{name}", {"rest": "a/b", "id": "7", "name": "c"})
    assert router.find(GET, "/a/b/c/7") == ("/{rest:path}/{name}", {"rest": "a/b/c", "name": "7"})


def test_a_path_that_is_not_meant_opens_no_group() -> None:
    """To open a group costs a step for each one before it: 500 paths took ten times as long as a request, hence none begins with one."""
    literal = router_of(*(f"/things{number}/{{id}}" for number in range(500)))
    assert "|(/" not in _written(literal).pattern
    shared = router_of(*(f"/{{tenant}}/things{number}" for number in range(500)))
    assert _written(shared).pattern.count("[^/]+") == 1


def _written(router: Router) -> re.Pattern[str]:
    match = router.match[GET]("/ada/things7") or router.match[GET]("/things7/ada")
    assert match is not None
    return match.re
