from tests.fuzz.seeds import seeds


def explosive_model(random):
    s = seeds(samples=False)["conv"]()
    return s, s.message.SerializeToString()
