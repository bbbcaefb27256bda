"""The network to train."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from specs.base import Section
from specs.errors import nearest

OwnModel = Literal["mlp", "small_cnn", "resnet8", "resnet20", "resnet32", "wrn28_10"]
OWN_MODELS: tuple[str, ...] = get_args(OwnModel)

# torchvision.models.list_models(module=torchvision.models), copied because importing torchvision takes
# seconds; a test compares the two. inception_v3 and googlenet return auxiliary outputs and are left out.
TORCHVISION_CLASSIFIERS = tuple(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
    efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s
    maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large
    mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf
    regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf
    regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50
    resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b
    swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
    """.split()  # noqa: SIM905 - a list of 70 lines says no more
)
MODELS = OWN_MODELS + TORCHVISION_CLASSIFIERS
# torchvision's ResNets, whose first layers can be exchanged
RESNETS = tuple(name for name in TORCHVISION_CLASSIFIERS if name.startswith(("resnet", "resnext", "wide_resnet")))
PUBLISHED = "torchvision"  # a value of `pretrained`: torchvision's own weights, rather than a file


class Model(Section):
    """A classifier of images, trained from a seeded random initialisation or from given weights."""

    name: str = Field(
        description="mlp, small_cnn, resnet8, resnet20, resnet32 (CIFAR form), wrn28_10 (WideResNet-28-10), or any "
        "torchvision classifier.",
        json_schema_extra={"enum": list(MODELS)},
    )
    width: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="mlp: hidden units (default 128); small_cnn: channels of the first layer (default 16).",
    )

    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="wrn28_10: share of activations dropped between the two convolutions of a block."
    )
    stem: Literal["standard", "small"] = Field(
        "standard",
        description="torchvision's ResNets: standard is their 7x7 convolution of stride 2 and max pooling, which the "
        "paper's published code keeps for 64 px images too; small is a 3x3 convolution of stride 1 and no pooling.",
    )
    pretrained: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Weights to start from: torchvision, for those it publishes as IMAGENET1K_V1, or a file with a "
        "state dict saved by torch.save. A last layer for another number of classes is initialised anew.",
    )
    download: bool = Field(
        False, description="Let torchvision download its weights if they are not in torch's hub folder."
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in MODELS:
            raise ValueError(
                f"no model of this name{nearest(name, MODELS)}; allowed: {', '.join(OWN_MODELS)}, "
                "or a torchvision classifier such as resnet18"
            )
        return name
