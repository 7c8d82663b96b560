from tests.fixtures.students import net, obs, saved, task  # noqa: F401
