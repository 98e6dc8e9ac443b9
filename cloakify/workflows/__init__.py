"""One file a verb: the story of harden, verify, inspect, … told in calls to the packages below."""
