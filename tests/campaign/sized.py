"How many examples a campaign takes: KRONOS_CAMPAIGN says it, and the ordinary tests draw the same few every time."

import os

from hypothesis import HealthCheck, settings


def sized(ordinary, share=1, deadline=None):
    "hypothesis' settings of a test that takes one of `share` parts; `ordinary` examples where nobody asks for more."
    count = int(os.environ.get('KRONOS_CAMPAIGN', ordinary)) // share
    return settings(
        max_examples=count,
        deadline=deadline,
        database=None,
        derandomize=count <= ordinary // share,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
