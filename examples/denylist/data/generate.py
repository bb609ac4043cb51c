#!/usr/bin/env python3
"""Writes calls.csv.gz, the call log of the denylist example.

Always the same bytes for the same phonenumbers (see requirements.txt) and zlib.
"""

import collections
import gzip
import itertools
import pathlib
import random

import phonenumbers
from phonenumbers import PhoneNumberType

SEED = 20_250_101
CALLS = 200_000
NEIGHBOURS = 24  # further valid numbers taken after each example number
SPAMMERS = 150
SPAM_SHARE = 0.08  # of all calls
HOME_SHARE = 0.70  # of the other calls: the sender's country code is the recipient's
DENY_CHANCE = 0.45  # that a recipient reached by a spammer writes a rule
PREFIX_SHARE = 0.25  # of these rules: they deny a prefix, not only the one number
ALLOW_CHANCE = 0.004  # that a call is followed by someone taking a rule back


def examples():
    """The example numbers of every region and type, and of the codes without a region."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for number_type in PhoneNumberType.values():
            yield phonenumbers.example_number_for_type(region, number_type)
    for code in sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        yield phonenumbers.example_number_for_non_geo_entity(code)


def with_neighbours(example):
    """A number and the valid ones that follow it closely."""
    for offset in range(NEIGHBOURS + 1):
        number = phonenumbers.PhoneNumber()
        number.merge_from(example)
        number.national_number += offset
        if phonenumbers.is_valid_number(number):
            yield number


def population():
    """{E.164 number: country code}"""
    return {
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164): number.country_code
        for example in examples()
        if example is not None
        for number in with_neighbours(example)
    }


def zipf(rng, numbers):
    """Draws from numbers: the second half as often as the first, the third a third as often, ..."""
    ranked = rng.sample(numbers, len(numbers))
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(ranked) + 1)))
    return lambda: rng.choices(ranked, cum_weights=weights)[0]


def denied(rules, sender):
    return sender in rules or any(sender[:n] + "*" in rules for n in range(1, len(sender) + 1))


def log():
    rng = random.Random(SEED)
    code_of = population()
    numbers = sorted(code_of)
    by_code = collections.defaultdict(list)
    for number in numbers:
        by_code[code_of[number]].append(number)

    any_recipient = zipf(rng, numbers)
    any_sender = zipf(rng, numbers)
    spammers = rng.sample(numbers, SPAMMERS)
    rules = collections.defaultdict(set)
    written = []  # every (recipient, rule) in force, to take back at random

    for _ in range(CALLS):
        recipient = any_recipient()
        spam = rng.random() < SPAM_SHARE
        if spam:
            sender = rng.choice(spammers)
        elif rng.random() < HOME_SHARE:
            sender = rng.choice(by_code[code_of[recipient]])
        else:
            sender = any_sender()
        yield f"call,{sender},{recipient}"

        if spam and not denied(rules[recipient], sender) and rng.random() < DENY_CHANCE:
            rule = sender
            if rng.random() < PREFIX_SHARE and code_of[sender] != code_of[recipient]:
                # The whole country code, or a range of numbers inside it.
                rule = sender[: 1 + len(str(code_of[sender])) + rng.choice((0, 2, 4))] + "*"
            rules[recipient].add(rule)
            written.append((recipient, rule))
            yield f"deny,{recipient},{rule}"

        if written and rng.random() < ALLOW_CHANCE:
            recipient, rule = written.pop(rng.randrange(len(written)))
            rules[recipient].discard(rule)
            yield f"allow,{recipient},{rule}"


def main():
    path = pathlib.Path(__file__).with_name("calls.csv.gz")
    lines = list(log())
    text = "".join(line + "\n" for line in lines).encode("ascii")
    with open(path, "wb") as file:
        # No file name and no time in the header, so that the bytes do not change.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as gz:
            gz.write(text)

    words = collections.Counter(line.split(",")[0] for line in lines)
    recipients = {
        fields[2] if fields[0] == "call" else fields[1]
        for fields in (line.split(",") for line in lines)
    }
    print(f"{path.name}: {path.stat().st_size:,} bytes, {len(text):,} unpacked")
    print(f"{len(population()):,} numbers, {len(recipients):,} of them recipients")
    print(", ".join(f"{count:,} {word}" for word, count in words.most_common()))


if __name__ == "__main__":
    main()
