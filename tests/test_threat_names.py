"""The names that `trained_on` is made of are those of the threat models that can be configured, and no others."""

import pytest

from gauntlet import threats
from gauntlet.errors import UserError
from gauntlet.threat_names import NAMES, check_names
from gauntlet.threats import L2, LUV, RGB, AnyOf, Composition, Linf, ReColorAdv


def test_every_threat_model_has_a_known_name():
    classes = [getattr(threats, name) for name in threats.__all__]
    own = {one.name for one in classes if isinstance(getattr(one, "name", None), str)}
    spaces = {space: ReColorAdv(0.06, space=space).name for space in (LUV(), RGB())}
    assert set(NAMES) == own - {"clean", *(space.name for space in spaces)} | set(spaces.values())
    check_names([Composition([ReColorAdv(0.06), Linf(0.1)]).name, AnyOf([Linf(0.1), L2(1.0)]).name], "trained_on")


@pytest.mark.parametrize("name", ["banana", "linf+banana", "linf,l2", "Linf", "", "recoloradv"])
def test_what_nothing_is_called_is_refused(name):
    with pytest.raises(UserError, match=r"trained_on .*: expected names of threat models \(linf, l2, .*\), none for"):
        check_names(["linf", name], "trained_on")


def test_a_name_of_ones_own_is_known_where_it_is_said():
    check_names(["fog", "linf+l2", "linf|stadv"], "trained_on", others=["fog"])
