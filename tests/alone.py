"""Code for processes that have a log and serve nobody."""

from tests.greenlets import ROOT

ALONE = f"""
import sys, types
sys.modules["streaming"] = package = types.ModuleType("streaming")
package.__path__ = [{str(ROOT / "streaming")!r}]
"""
"""Its rooms without its front door, which brings Flask and all of the package: to import that costs
four times as much as a log and its Python."""
