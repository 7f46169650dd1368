# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every mistake in a definition is told, all of them at once, each with what it is about and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise, wrap
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from hypothesis import given, settings
from hypothesis import strategies as st

LAYER = {"name": "base", "src": "/base.tar"}
STACK = {"name": "web", "path": "/srv/web", "layers": ["base"]}
DIGEST = "sha256:" + "a" * 64


def layer(**options: Any) -> dict[str, Any]:
    return {"layers": [{**LAYER, **options}]}


def stack(**options: Any) -> dict[str, Any]:
    return {"stacks": [{**STACK, **options}]}


def two(**options: Any) -> dict[str, Any]:
    return {"stacks": [STACK, {**STACK, "name": "db", "path": "/srv/db", **options}]}


def problems_of(definition: dict[str, Any]) -> list[str]:
    return normalise("apply", definition)[1]


MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    # Unknown options and wrong types.
    ({"layer": []}, ["unknown option 'layer'; did you mean 'layers'?"]),
    (
        {"xyzzy": {}},
        ["unknown option 'xyzzy'; known are exclusive, images, layers, lock_timeout, prune, root, stacks, stage"],
    ),
    ({"prune": []}, ["option 'prune' must be a dictionary, not a list"]),
    (
        {"layers": [{"name": "base", "src": "/a", "times": "fixed"}]},
        ["layer base: option 'times' is for dir and files; the archive of 'src' has times of its own"],
    ),
    (
        {"prune": {"unused_for": "soon", "max_bytes": "-1", "kep": []}},
        [
            "prune: unknown option 'kep'; did you mean 'keep'?",
            "prune: option 'unused_for': 'soon' must be a time such as 7d, 12h or 30m",
            "prune: option 'max_bytes': '-1' must be a number of bytes such as 512m or 10g",
        ],
    ),
    (stack(writeable="none"), ["stack web: unknown option 'writeable'; did you mean 'writable'?"]),
    (layer(sorce="x"), ["layer base: unknown option 'sorce'; did you mean 'src'?"]),
    (
        layer(_controller={}),
        [
            (
                "layer base: unknown option '_controller'; known are auth_file, digest, dir, exclude, files, "
                "headers, include, labels, limits, name, password, prefix, remote_src, src, state, strip_components, "
                "times, url, username"
            )
        ],
    ),
    ({"layers": {"base": {}}}, ["option 'layers' must be a list, not a dictionary"]),
    ({"stacks": "web"}, ["option 'stacks' must be a list, not 'web'"]),
    (
        {"layers": ["base"]},
        [
            "layer 1: must be a dictionary of options, not 'base'",
            "layer 1: option 'name' is missing; it is required",
            "layer 1: exactly one of src, url, dir, files says where the layer comes from; none is given",
        ],
    ),
    (stack(cover="perhaps"), ["stack web: option 'cover' must be true or false, not 'perhaps'"]),
    (stack(generations="three"), ["stack web: option 'generations' must be a whole number, not 'three'"]),
    (stack(generations="\u00b2"), ["stack web: option 'generations' must be a whole number, not '\u00b2'"]),
    (stack(generations="+-3"), ["stack web: option 'generations' must be a whole number, not '+-3'"]),
    (stack(generations=0), ["stack web: option 'generations' must be at least 1, the one that is mounted"]),
    (stack(layers="base"), ["stack web: option 'layers' must be a list, not 'base'"]),
    (stack(layers=[7]), ["stack web: option 'layers': item 1 must be a layer's name or a layer, not 7"]),
    (layer(labels="gold"), ["layer base: option 'labels' must be a dictionary, not 'gold'"]),
    (
        layer(name=["a"]),
        [
            "layer 1: option 'name' must be a string, not a list",
        ],
    ),
    (stack(writable="yes"), ["stack web: option 'writable' must be one of none, persistent, volatile, not 'yes'"]),
    (
        stack(writable="persistant"),
        [
            (
                "stack web: option 'writable' must be one of none, persistent, volatile, not 'persistant'; "
                "did you mean "
                "'persistent'?"
            )
        ],
    ),
    (stack(path="/a\0b"), ["stack web: option 'path' must be a path, not '/a\\x00b'"]),
    # Names.
    ({"layers": [{"src": "/x"}]}, ["layer 1: option 'name' is missing; it is required"]),
    ({"stacks": [{"path": "/x", "layers": ["base"]}]}, ["stack /x: option 'name' is missing; it is required"]),
    (
        layer(name=".base"),
        [
            (
                "layer .base: option 'name': '.base' must begin with a letter or digit and hold only "
                "letters, digits and "
                ". _ : @ + / - (at most 200)"
            )
        ],
    ),
    (
        layer(name="base\n"),
        [
            (
                "layer base\n: option 'name': 'base\\n' must begin with a letter or digit and hold only "
                "letters, digits and "
                ". _ : @ + / - (at most 200)"
            )
        ],
    ),
    (
        stack(name="a b"),
        [
            (
                "stack a b: option 'name': 'a b' must begin with a letter or digit and hold only letters, digits and "
                ". _ : @ + / - (at most 200)"
            )
        ],
    ),
    ({"layers": [LAYER, LAYER, LAYER]}, ["layer base: option 'name' is used 3 times; each layer needs its own"]),
    (two(name="web"), ["stack web: option 'name' is used 2 times; each stack needs its own"]),
    # Sources.
    (
        {"layers": [{"name": "base"}]},
        ["layer base: exactly one of src, url, dir, files says where the layer comes from; none is given"],
    ),
    (
        layer(url="https://x/y"),
        ["layer base: exactly one of src, url, dir, files says where the layer comes from; src and url are given"],
    ),
    (
        layer(src=None, url="ftp://x/y"),
        ["layer base: option 'url' must begin with https://, http:// or file://"],
    ),
    (
        layer(src="base.tar", remote_src=True),
        ["layer base: option 'src': 'base.tar' must be absolute, since remote_src is true"],
    ),
    (
        layer(digest="md5:1"),
        ["layer base: option 'digest': 'md5:1' must be 'sha256:' and 64 lower-case hexadecimal digits"],
    ),
    (
        layer(digest=DIGEST + "\n"),
        [f"layer base: option 'digest': '{DIGEST}\\n' must be 'sha256:' and 64 lower-case hexadecimal digits"],
    ),
    (
        stack(layers=["base", {"url": "x"}]),
        ["stack web: layer 2: option 'url' must begin with https://, http:// or file://"],
    ),
    (
        stack(layers=[{"name": "new", "fils": []}]),
        [
            "stack web: layer 1: unknown option 'fils'; did you mean 'files'?",
            "stack web: layer 1: exactly one of src, url, dir, files says where the layer comes from; none is given",
        ],
    ),
    # Layers of a stack.
    (stack(layers=[]), ["stack web: option 'layers' is empty; a stack needs at least one layer"]),
    (stack(layers=["base"] * 501), ["stack web: option 'layers' has 501 layers; the kernel takes at most 500"]),
    # Paths.
    (stack(path="srv/web"), ["stack web: option 'path': 'srv/web' must be absolute, beginning with /"]),
    (stack(path=""), ["stack web: option 'path': '' must be absolute, beginning with /"]),
    (stack(path="/"), ["stack web: option 'path': a stack can't be mounted over /; name a directory below it"]),
    (stack(path="//./"), ["stack web: option 'path': a stack can't be mounted over /; name a directory below it"]),
    (stack(path="/srv/../etc"), ["stack web: option 'path': '/srv/../etc' must not hold '..'"]),
    (stack(path="/srv/a\nb"), ["stack web: option 'path': '/srv/a\\nb' must not hold control characters"]),
    (
        stack(path="/var/lib/strata"),
        ["stack web: option 'path': /var/lib/strata lies inside the store /var/lib/strata; choose another"],
    ),
    (
        stack(path="/var/lib/strata/overlay2/x/"),
        ["stack web: option 'path': /var/lib/strata/overlay2/x lies inside the store /var/lib/strata; choose another"],
    ),
    (
        stack(path="/var/lib"),
        ["stack web: option 'path': /var/lib would cover the store /var/lib/strata; choose another"],
    ),
    (two(path="/srv/./web/"), ["stack db: option 'path': /srv/web is the path of stack web too"]),
    (two(path="/srv/web/db"), ["stack db: option 'path': /srv/web/db lies inside /srv/web, the path of stack web"]),
    (two(path="/srv"), ["stack web: option 'path': /srv/web lies inside /srv, the path of stack db"]),
    ({"root": "strata"}, ["option 'root': 'strata' must be the absolute path of a directory of its own"]),
    ({"root": "/"}, ["option 'root': '/' must be the absolute path of a directory of its own"]),
    # Sizes.
    (
        stack(writable="volatile", size="big"),
        ["stack web: option 'size': 'big' must be a number of bytes such as 512m or 2g"],
    ),
    (
        stack(writable="volatile", size="0"),
        ["stack web: option 'size': '0' must be a number of bytes such as 512m or 2g"],
    ),
    (
        stack(writable="none", size="1g"),
        ["stack web: option 'size' needs writable: volatile or persistent; a read-only stack cannot grow"],
    ),
    (
        stack(mount_options=["nosuid", "nosiud", "noatime", "strictatime"]),
        [
            (
                "stack web: option 'mount_options': 'nosiud' is not one of nosuid, nodev, dev, noexec, nosymfollow, "
                "noatime, nodiratime, relatime, strictatime"
            ),
            "stack web: option 'mount_options': noatime and strictatime exclude each other; keep one",
        ],
    ),
    (
        stack(mount_options=["dev", "nodev"]),
        ["stack web: option 'mount_options': nodev and dev exclude each other; keep one"],
    ),
    (
        stack(propagation="privat"),
        [
            (
                "stack web: option 'propagation' must be one of private, slave, shared, unbindable, not 'privat'; "
                "did you mean 'private'?"
            )
        ],
    ),
    (
        stack(context='secret"'),
        [
            (
                "stack web: option 'context': 'secret\"' must be a SELinux label such as "
                "system_u:object_r:container_file_t:s0"
            )
        ],
    ),
    *(
        (
            stack(idmap=given),
            [
                (
                    "stack web: option 'idmap' must have uid and gid, each as 'first:host:count' such as "
                    "'0:100000:65536': ids from first on in the layers are shown as ids from host on"
                )
            ],
        )
        for given in (
            {"uid": "0:100000:65536"},
            {"uid": "0:100000:65536", "gid": "0:100000"},
            {"uid": "0:100000:0", "gid": "0:1:1"},
            {"uid": "0:4294967295:1", "gid": "0:1:1"},
            {"uid": "0:1:1", "gid": "0:1:1", "pid": "0:1:1"},
        )
    ),
    (
        stack(mode="rwx"),
        ["stack web: option 'mode': 'rwx' must be octal in quotes, such as \"0640\""],
    ),
    (
        stack(generation="last"),
        [
            "stack web: option 'generation' must be previous or the number of a generation, not 'last'",
            "stack web: option 'generation' brings back the layers that the stack had; leave out 'layers'",
        ],
    ),
    (
        {"stage": True, "prune": {}},
        ["option 'prune' cannot go with stage, which only brings what is needed later; leave one of them out"],
    ),
    (
        {"stacks": [{"name": "web", "generation": "previous", "state": "unmounted"}]},
        ["stack web: option 'generation' needs state: mounted"],
    ),
]


@pytest.mark.parametrize(("definition", "expected"), MISTAKES)
def test_each_error_in_a_definition_has_its_message(definition: dict[str, Any], expected: list[str]) -> None:
    assert problems_of(definition) == expected


def test_all_errors_in_a_definition_are_reported_at_once() -> None:
    definition = {
        "exclusiv": True,
        "layers": [
            {"name": "base", "src": "/a", "digest": "sha256:12"},
            {"name": "base", "src": "/b"},
            {"name": "conf", "files": [{"path": "../etc/passwd", "content": "x"}]},
            {"name": "both", "src": "/a", "dir": "/b"},
        ],
        "stacks": [
            {"name": "web", "path": "srv/web", "layers": []},
            {"name": "db", "path": "/srv/db", "layers": ["base"] * 501, "writable": "volatil"},
            {"name": "in", "path": "/srv/db/in", "layers": ["base", 3]},
            {"name": "root", "path": "/", "layers": "base"},
            {"name": "store", "path": "/var/lib/strata/x", "cover": "maybe", "layers": ["base"]},
            {"name": "store", "path": "/srv/store", "layers": ["base"]},
        ],
    }
    assert problems_of(definition) == [
        "unknown option 'exclusiv'; did you mean 'exclusive'?",
        (
            "stack db: option 'writable' must be one of none, persistent, volatile, not 'volatil'; did "
            "you mean 'volatile'?"
        ),
        "stack root: option 'layers' must be a list, not 'base'",
        "stack store: option 'cover' must be true or false, not 'maybe'",
        "layer base: option 'digest': 'sha256:12' must be 'sha256:' and 64 lower-case hexadecimal digits",
        (
            "layer conf: file ../etc/passwd: option 'path': '../etc/passwd' must name something below the layer's top, "
            "without '..'"
        ),
        "layer both: exactly one of src, url, dir, files says where the layer comes from; src and dir are given",
        "stack web: option 'layers' is empty; a stack needs at least one layer",
        "stack web: option 'path': 'srv/web' must be absolute, beginning with /",
        "stack db: option 'layers' has 501 layers; the kernel takes at most 500",
        "stack in: option 'layers': item 2 must be a layer's name or a layer, not 3",
        "stack root: option 'path': a stack can't be mounted over /; name a directory below it",
        "layer base: option 'name' is used 2 times; each layer needs its own",
        "stack store: option 'name' is used 2 times; each stack needs its own",
        "stack store: option 'path': /var/lib/strata/x lies inside the store /var/lib/strata; choose another",
        "stack in: option 'path': /srv/db/in lies inside /srv/db, the path of stack db",
    ]


def test_errors_are_joined_into_one_message_without_duplicates() -> None:
    assert str(DefinitionError(["one", "two", "one"])) == (
        "The definition has 2 mistakes; nothing was changed:\n  - one\n  - two"
    )
    assert str(DefinitionError(["one"])).startswith("The definition has 1 mistake;")


def test_definition_is_normalised_to_layers_stacks_and_sources() -> None:
    definition, errors = normalise(
        "apply",
        {
            "root": "/srv/strata/",
            "exclusive": "yes",
            "layers": [
                {"name": "base", "src": "debian.tar.zst", "digest": DIGEST, "labels": {"tier": 1}},
                {"name": "old", "state": "absent"},
            ],
            "stacks": [
                {
                    "name": "web",
                    "path": "//srv//web/",
                    "layers": ["base", {"name": "app", "url": "https://x/app.tar"}, {"dir": "/d", "remote_src": True}],
                    "writable": "volatile",
                    "size": "512M",
                    "generations": "5",
                }
            ],
        },
    )
    assert errors == []
    app = LayerSpec("stack web: layer 2", "app", Source("url", "https://x/app.tar", on_host=True))
    tree = LayerSpec("stack web: layer 3", "", Source("dir", "/d", on_host=True))
    base = LayerSpec("layer base", "base", Source("src", "debian.tar.zst"), DIGEST, {"tier": "1"})
    assert definition.layers == (base, LayerSpec("layer old", "old", Source(""), absent=True))
    assert definition.stacks == (
        StackSpec("web", "/srv/web", ("base", app, tree), "volatile", 512 << 20, False, "fail", 5, "mounted"),
    )
    assert (definition.root, definition.exclusive) == ("/srv/strata", True)
    assert definition.sources() == [base, app, tree]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        (4096, 4096),
        ("1k", 1024),
        ("2G", 2 << 30),
        ("3mb", 3 << 20),
        ("1TiB", 1 << 40),
        (" 5m ", 5 << 20),
    ],
)
def test_size_is_read_as_bytes(text: Any, size: int) -> None:
    definition, errors = normalise("apply", stack(writable="volatile", size=text))
    assert (definition.stacks[0].size, errors) == (size, [])


@pytest.mark.parametrize("size", ["1.5g", "-1", "\u0663m", "1e3", "m", "9" * 5000, "1 g"])
def test_malformed_size_is_refused(size: str) -> None:
    (problem,) = problems_of(stack(writable="volatile", size=size))
    assert problem.endswith("must be a number of bytes such as 512m or 2g")


def test_500_layers_are_allowed() -> None:
    assert problems_of(stack(layers=["base"] * 500)) == []


def test_absent_stack_may_share_a_path_and_have_no_layers() -> None:
    assert problems_of(two(path="/srv/web", state="absent")) == []
    assert problems_of(stack(state="absent", layers=[])) == []


def test_neighbouring_paths_are_not_taken_for_nested() -> None:
    assert problems_of(two(path="/srv/web2")) == []
    assert problems_of(stack(path="/var/lib/strata2")) == []
    assert problems_of({"root": "/data/strata", **stack(path="/var/lib/strata")}) == []


def test_nested_path_is_found_past_a_path_that_sorts_between() -> None:
    definition = {"stacks": [{**STACK, "name": n, "path": p} for n, p in (("a", "/s"), ("b", "/s-x"), ("c", "/s/y"))]}
    assert problems_of(definition) == ["stack c: option 'path': /s/y lies inside /s, the path of stack a"]


def test_resolved_layer_needs_no_source() -> None:
    definition = {"layers": [{"name": "base"}], **stack(layers=[{"name": "app"}])}
    assert normalise("apply", definition, ["layer base", "stack web: layer 1"])[1] == []


def test_one_item_module_is_wrapped_into_a_definition_of_one_item() -> None:
    common = {"root": "/s", "lock_timeout": 5}
    assert wrap("layer", {**LAYER, **common, "url": None}) == {**common, "layers": [LAYER]}
    assert wrap("stack", {**STACK, **common}) == {**common, "stacks": [STACK]}
    assert wrap("apply", {"layers": [LAYER], "stacks": None}) == {"layers": [LAYER]}


def test_option_of_apply_alone_is_unknown_to_a_one_item_module() -> None:
    errors = normalise("stack", {**STACK, "exclusive": True})[1]
    assert [problem.split(";")[0] for problem in errors] == ["stack web: unknown option 'exclusive'"]


@pytest.mark.parametrize(
    ("path", "directory", "inside"),
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False), ("/a", "/", True)],
)
def test_path_is_inside_a_directory_by_whole_components(path: str, directory: str, inside: bool) -> None:
    assert is_inside(path, directory) is inside


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=12)
    | st.sampled_from(["base", "/srv/web", "~", "~x\0", "$HOME", "none", "absent", "\u00b2", "0640", "sha256:"])
)
KEYS = st.sampled_from(
    [
        "name",
        "path",
        "layers",
        "writable",
        "size",
        "cover",
        "on_busy",
        "generations",
        "state",
        "src",
        "url",
        "dir",
        "files",
        "remote_src",
        "digest",
        "labels",
        "content",
        "target",
        "mode",
        "owner",
        "group",
        "opaque",
    ]
) | st.text(max_size=5)
YAML = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=15
)
ITEMS = st.lists(st.dictionaries(KEYS, YAML, max_size=8) | YAML, max_size=3)


@settings(deadline=None)
@given(layers=ITEMS | YAML, stacks=ITEMS | YAML, root=YAML, exclusive=YAML)
def test_arbitrary_definition_is_understood_or_reported(layers: Any, stacks: Any, root: Any, exclusive: Any) -> None:
    given_options = {"layers": layers, "stacks": stacks, "root": root, "exclusive": exclusive}
    definition, errors = normalise("apply", given_options)
    assert all(errors)
    if not errors:
        names = [item["name"] for item in layers or []]
        assert [item.name for item in definition.layers] == [str(name) for name in names]


@given(module=st.sampled_from(["layer", "stack"]), options=st.dictionaries(KEYS, YAML, max_size=8))
def test_arbitrary_options_of_a_one_item_module_raise_nothing(module: str, options: dict[str, Any]) -> None:
    definition, _problems = normalise(module, options)
    assert len(definition.layers) + len(definition.stacks) == 1


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"name": "a" + ":" * 100, "dir": "/x"}, "option 'name'"),
        ({"name": "a", "files": [{"path": "f", "content": "\ud800"}]}, "must be text that UTF-8 can write"),
        ({"name": "a", "src": "/x\ud800"}, "option 'src' must be a path"),
    ],
)
def test_value_that_no_file_system_or_tar_can_hold_is_refused(layer: dict[str, Any], message: str) -> None:
    _definition, errors = normalise("apply", {"layers": [layer]})
    assert any(message in problem for problem in errors), errors


def test_secrets_are_health_headers_and_registry_passwords() -> None:
    health = {"url": "http://localhost/", "headers": {"Authorization": "Bearer abc", "X-Empty": ""}}
    image = {"name": "app", "registry": "r.example.com/app:1", "username": "me", "password": "hidden"}
    definition, errors = normalise("apply", {"images": [image], "stacks": [{**STACK, "health": health}]})
    assert (definition.secrets(), errors) == ({"Bearer abc", "hidden"}, [])
