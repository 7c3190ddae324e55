"""The licences of public data sets, as their authors state them, by name."""

NONE_STATED = "its authors state none"
LICENCES = {
    "postcards": "MIT; drawn by cnnexp",
    "textures": "MIT; drawn by cnnexp",
    "imagenette": "Apache-2.0 for the collection; the photographs are ImageNet's, for non-commercial research",
    "cifar10": f"{NONE_STATED}; they ask to cite Krizhevsky 2009",
    "cifar10_jpeg": f"{NONE_STATED}; they ask to cite Krizhevsky 2009",
    "MNIST": "CC BY-SA 3.0",
    "FashionMNIST": "MIT",
    "CIFAR100": f"{NONE_STATED}; they ask to cite Krizhevsky 2009",
    "SVHN": "for non-commercial use only",
    "STL10": f"{NONE_STATED}; the photographs are ImageNet's, for non-commercial research",
    "Flowers102": NONE_STATED,
    "Food101": f"{NONE_STATED}; the photographs are Foodspotting's, for scientific fair use",
    "OxfordIIITPet": "CC BY-SA 4.0",
    "EuroSAT": "MIT",
}
