"""uvicorn has what our side of a connection stands on; one that lacks it serves nothing."""

from __future__ import annotations

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maas_magics.api.errors import IncompatibleVersion
from maas_magics.service import compat
from maas_magics.service.transport import configure


def test_this_uvicorn_lacks_nothing() -> None:
    assert compat.missing() == []
    assert compat.ServerProtocol.end_keep_alive is HttpToolsProtocol._unset_keepalive_if_required


def test_a_uvicorn_that_lacks_something_is_refused_before_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "ATTRIBUTES", (*compat.ATTRIBUTES, "corkscrew"))
    monkeypatch.delattr(HttpToolsProtocol, "send_400_response")
    with pytest.raises(IncompatibleVersion, match="send_400_response, corkscrew of its protocol") as caught:
        configure(lambda: None)
    assert uvicorn.__version__ in caught.value.message and "--upgrade maas-magics uvicorn" in caught.value.hint
