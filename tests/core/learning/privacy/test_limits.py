"""A site's own limits are read as strictly as a config."""

import pytest

from facemorph_core.config.load import load_section
from facemorph_core.errors import ConfigError
from facemorph_core.learning.privacy.limits import SiteLimits
from tests.core.config.test_config import SAID_WRONG


@pytest.mark.parametrize(("content", "words"), SAID_WRONG)
def test_a_limit_is_said_once_and_by_its_name(tmp_path, content, words):
    path = tmp_path / "site.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_section(path, SiteLimits)
    assert words in str(caught.value)
