import hashlib

from recsys_spark.evaluation.sampling import smallest_hashes


def test_users_are_those_with_the_smallest_hashes_whatever_the_order() -> None:
    users = [f"u{number}" for number in range(100)]
    by_hash = sorted(users, key=lambda user: hashlib.sha256(user.encode()).hexdigest())
    batches = [users[start : start + 7] for start in range(0, 100, 7)]
    assert smallest_hashes(batches, 5) == by_hash[:5]
    assert smallest_hashes(reversed(batches), 5) == by_hash[:5]
    assert smallest_hashes([["a"], []], 5) == ["a"]
