"""What the server's error replies mean, in the words of Redis 6.2 to 8 and Valkey."""

from __future__ import annotations

import pytest

from mainflux_events.refusals import LONGEST, Outlook, Refusal


@pytest.mark.parametrize(
    ("text", "outlook"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", Outlook.PASSING),
        ("LOADING Redis is loading the dataset in memory", Outlook.PASSING),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Outlook.PASSING),
        ("NOREPLICAS Not enough good replicas to write.", Outlook.PASSING),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", Outlook.PASSING),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Outlook.PASSING),
        ("EXECABORT Transaction discarded because of previous errors.", Outlook.PASSING),
        ("EXECABORT Transaction discarded because of: OOM command not allowed", Outlook.PASSING),
        ("ERR max number of clients reached", Outlook.PASSING),
        ("READONLY You can't write against a read only replica.", Outlook.ELSEWHERE),
        ("EXECABORT Transaction discarded because of: READONLY You can't write", Outlook.ELSEWHERE),
        ("MOVED 3999 127.0.0.1:6381", Outlook.ELSEWHERE),
        ("ASK 3999 127.0.0.1:6381", Outlook.ELSEWHERE),
        ("CLUSTERDOWN The cluster is down", Outlook.ELSEWHERE),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Outlook.ELSEWHERE),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Outlook.LASTING),
        ("NOAUTH Authentication required.", Outlook.LASTING),
        ("NOPERM this user has no permissions to run the 'xadd' command", Outlook.LASTING),
        ("EXECABORT Transaction discarded because of: NOPERM no permissions", Outlook.LASTING),
        ("DENIED Redis is running in protected mode", Outlook.LASTING),
        ("ERR unknown command 'XADD', with args beginning with: 'things' '*'", Outlook.LASTING),
        ("ERR wrong number of arguments for 'xadd' command", Outlook.LASTING),
        ("ERR syntax error", Outlook.LASTING),
        ("ERR The stream has exhausted the last possible ID, unable to add more items", Outlook.LASTING),
        ("ERR value is not an integer or out of range", Outlook.LASTING),
        ("ERR Protocol error: unauthenticated multibulk length", Outlook.LASTING),
        ("ERR Protocol error: unauthenticated bulk length", Outlook.LASTING),
        ("ERR what no version of today says", Outlook.LASTING),
        ("upstream failure", Outlook.LASTING),
        ("ERR Elements are too large to be stored", Outlook.VALUE),
        ("ERR Protocol error: invalid bulk length", Outlook.VALUE),
        ("ERR Protocol error: invalid multibulk length", Outlook.VALUE),
        ("ERR string exceeds maximum allowed size (proto-max-bulk-len)", Outlook.VALUE),
    ],
)  # fmt: skip
def test_the_outlook_of_a_refusal(text: str, outlook: Outlook) -> None:
    assert Refusal(text).outlook is outlook


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OOM command not allowed", "OOM"),
        ("EXECABORT Transaction discarded because of previous errors.", "EXECABORT"),
        ("EXECABORT Transaction discarded because of: OOM command not allowed", "OOM"),
        ("LOADING", "LOADING"),
    ],
)
def test_the_code_is_the_first_word_of_the_cause(text: str, code: str) -> None:
    assert Refusal(text).code == code


def test_arguments_that_the_server_repeats_are_left_out() -> None:
    refusal = Refusal("ERR unknown command 'XADD', with args beginning with: 'things' 'secret'")
    assert str(refusal) == refusal.text == "ERR unknown command 'XADD'"
    assert "secret" not in repr(refusal)


def test_of_a_reply_without_end_the_beginning_is_told() -> None:
    # Without the bound, this took minutes.
    endless = "ERR Error running script " * 100_000
    assert str(Refusal(endless)) == endless[:LONGEST]


@pytest.mark.parametrize(
    "text",
    [
        "NOPERM User alice has no permissions to run the 'xadd' command",
        "NOPERM User alice has no permissions to access the 'things' key",
        "EXECABORT Transaction discarded because of: NOPERM User alice has no permissions to run 'xadd'",
    ],
)
def test_the_name_of_the_user_is_left_out(text: str) -> None:
    refusal = Refusal(text)
    assert "the user has no permissions" in str(refusal)
    assert "alice" not in f"{refusal} {refusal!r}"


@pytest.mark.parametrize(
    ("text", "access"),
    [
        ("NOAUTH Authentication required.", True),
        ("WRONGPASS invalid username-password pair or user is disabled.", True),
        ("NOPERM this user has no permissions", True),
        ("EXECABORT Transaction discarded because of: NOPERM no permissions", True),
        ("WRONGTYPE Operation against a key", False),
        ("ERR syntax error", False),
    ],
)
def test_credentials_and_rights_are_told_from_the_rest(text: str, access: bool) -> None:
    assert Refusal(text).access is access


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Redis 6.2 puts its own words around an error within a script, and 7.0 and 8.2 behind it.
        (
            "ERR Error running script (call to f_6): @user_script:1: @user_script: 1: -OOM command not allowed",
            "OOM",
        ),
        (
            "ERR Error running script (call to f_6): @user_script:1: WRONGTYPE Operation against a key",
            "WRONGTYPE",
        ),
        ("OOM command not allowed. script: 62e6, on @user_script:1.", "OOM"),
        # A right that is missing within a script has no code of its own in any of them.
        (
            (
                "ERR Error running script (call to f_6): @user_script:1: @user_script: 1: "
                "The user executing the script can't run this command or subcommand"
            ),
            "NOPERM",
        ),
        ("ERR The user executing the script can't run this command or subcommand script: 62e6", "NOPERM"),
        ("ERR ACL failure in script: User alice has no permissions to run the 'set' command", "NOPERM"),
    ],
)
def test_an_error_within_a_script_has_the_code_of_its_cause(text: str, code: str) -> None:
    assert Refusal(text).code == code


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ASK 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("ASK 3999 redis-2.example.org:6381", ("redis-2.example.org", 6381)),
        ("ASK 3999 2001:db8::1:6381", ("2001:db8::1", 6381)),
        ("EXECABORT Transaction discarded because of: ASK 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("ASK 3999 ?:6381", None),
        ("ASK 3999 :6381", None),
        ("MOVED 3999 127.0.0.1:6381", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
    ],
)
def test_where_the_keys_of_a_slot_that_moves_already_are(text: str, target: tuple[str, int] | None) -> None:
    assert Refusal(text).target == target
