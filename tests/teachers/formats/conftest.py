from tests.fixtures.students import net, saved, task  # noqa: F401
