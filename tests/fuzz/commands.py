"""Command lines: a base that works, and changes to keys of its own config, most of them mistakes."""

from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf

VALUES = [
    *("null", "true", "0", "-1", "1", "2", "0.5", "1e-400", "1e400", "inf", "-inf", "nan", "8", "1/255"),
    *(str(2**63), str(10**22), "abc", '""', "' '", "ü", '"日本 ö"', '"a\nb"', '"\x00"', '"\\ud800"', "'[31m'"),
    *("/nowhere", "~/x", "../x", ".", '"/dev/null"', "[]", "[1,2]", "[1,2,3]", "[a]", "[[]]", "[null]", "{}", "{a:1}"),
    *("{_target_:os.system}", "{_target_:torch.nn.Identity}", "{_target_:null}", "{_partial_:true}", "???"),
    *("torch.nn.Linear", "gauntlet.data.Digits", "builtins.eval", "torch.nn", "..", "gauntlet..data"),
    *("${seed}", "${nowhere}", "${oc.env:HOME}", "${oc.env:NOWHERE}", "${frac:1,0}", "${frac:8,255}", "${frac:a,b}"),
    *("${frac:1}", "${digest:}", "${nothing:1}", "${hydra:runtime.choices.model}", "${.}", "${..}", "${dataset}", "${"),
]


def keys_of(config, place=""):
    """Every key of a config, nodes included, that can be written without quotes."""
    names = config if isinstance(config, DictConfig) else ()
    for name in range(len(config)) if isinstance(config, ListConfig) else names:
        key = f"{place}.{name}".lstrip(".")
        if str(name).replace("_", "a").isalnum() and str(name).isascii():
            yield key
            node = config._get_node(name)
            if not (OmegaConf.is_missing(config, name) or node._is_none() or node._is_interpolation()):
                yield from keys_of(node, key)


def key_of(word):
    """The key that a word changes."""
    return word.lstrip("+~").partition("=")[0]


@st.composite
def changes(draw, keys):
    """One word that changes a key, adds one, or takes one away."""
    key, value = draw(st.sampled_from(keys)), draw(st.one_of(st.sampled_from(VALUES), NUMBERS, TEXT))
    how = draw(st.sampled_from(["set"] * 10 + ["force", "add", "below", "beside", "remove", "remove it", "itself"]))
    return {
        "set": f"{key}={value}",
        "force": f"++{key}={value}",
        "add": f"+{key}={value}",
        "below": f"+{key}.{draw(NAMES)}={value}",
        "beside": f"{'+' * draw(st.integers(0, 2))}{key.rpartition('.')[0]}.{draw(NAMES)}={value}".replace(
            "+.", "+"
        ).lstrip("."),
        "remove": f"~{key}",
        "remove it": f"~{key}={value}",
        "itself": f"{key}=${{{key}}}",
    }[how]


NAMES = st.sampled_from(
    ["bogus", "_target_", "_partial_", "_args_", "_convert_", "_recursive_", "ü", "0", "self", "seed", "steps", "bound"]
)
NUMBERS = st.one_of(st.integers(-3, 20), st.floats(-2, 2)).map(str)
TEXT = st.text(max_size=4).map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'")
