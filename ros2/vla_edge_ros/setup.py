"""The package vla_edge_ros, for colcon. What it runs is in the package vla-edge, which pip installs."""

from glob import glob

from setuptools import setup

NAME = "vla_edge_ros"

setup(
    name=NAME,
    version="0.1.0",
    description="A vision-language-action policy between a camera's topic and /cmd_vel, as a managed node.",
    license="Apache-2.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*.yaml")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={"console_scripts": [f"node = {NAME}.node:main"]},
)
