"""A logger of one's own: lines of text."""

import json


class Lines:
    def __init__(self, folder, step):
        self.file = (folder / "lines.txt").open("a")
        self.write("begin", step)

    def write(self, *words):
        self.file.write(json.dumps(words) + "\n")

    def scalars(self, step, figures):
        for tag, value in figures.items():
            self.write(step, tag, value)

    def image(self, step, tag, pixels):
        self.write(step, tag, list(pixels.shape))

    def hparams(self, settings, step, figures):
        self.write(step, "row", settings["seed"], sorted(figures))

    def close(self):
        self.write("end")
        self.file.close()
